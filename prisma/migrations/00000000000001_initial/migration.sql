-- The first schema: what Prisma makes of schema.prisma, then (at the end) what Prisma has no words for. Inline, by
-- hand: COLLATE "C" on the two path columns, which makes a prefix a range.

-- CreateTable
CREATE TABLE "instance" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "key_check" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "instance_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "organizations" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID,

    CONSTRAINT "organizations_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "projects" (
    "id" UUID NOT NULL,
    "organization_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID,

    CONSTRAINT "projects_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "principals" (
    "id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "email" TEXT,
    "admin" BOOLEAN NOT NULL DEFAULT false,
    "organization_id" UUID,
    "scopes" TEXT[],
    "disabled_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID,

    CONSTRAINT "principals_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "enrolments" (
    "code_hash" BYTEA NOT NULL,
    "principal_id" UUID NOT NULL,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "enrolments_pkey" PRIMARY KEY ("code_hash")
);

-- CreateTable
CREATE TABLE "memberships" (
    "tenant_id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "principal_id" UUID NOT NULL,
    "role" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID,

    CONSTRAINT "memberships_pkey" PRIMARY KEY ("owner_id","principal_id")
);

-- CreateTable
CREATE TABLE "tokens" (
    "id" UUID NOT NULL,
    "hash" BYTEA NOT NULL,
    "principal_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "parent_id" UUID,
    "made_with" UUID,
    "scopes" TEXT[],
    "max_uses" INTEGER,
    "uses" INTEGER NOT NULL DEFAULT 0,
    "allowed_cidrs" TEXT[],
    "expires_at" TIMESTAMPTZ(3),
    "last_used_at" TIMESTAMPTZ(3),
    "revoked_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID,

    CONSTRAINT "tokens_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "key_encryption_keys" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "manager" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "sealed" BYTEA,
    "created_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "key_encryption_keys_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "data_keys" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "generation" INTEGER NOT NULL,
    "kek_tenant" UUID NOT NULL,
    "kek_id" UUID NOT NULL,
    "wrapped" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "data_keys_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "settings" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "path" TEXT COLLATE "C" NOT NULL,
    "type" TEXT NOT NULL,
    "description" TEXT,
    "labels" JSONB NOT NULL,
    "revision" INTEGER NOT NULL,
    "current_version" INTEGER NOT NULL,
    "current_since" TIMESTAMPTZ(3) NOT NULL,
    "expires_at" TIMESTAMPTZ(3),
    "rotate_after_days" INTEGER,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL,
    "updated_by" UUID NOT NULL,
    "last_accessed_at" TIMESTAMPTZ(3),
    "deleted_at" TIMESTAMPTZ(3),
    "purge_at" TIMESTAMPTZ(3),
    "mac" BYTEA NOT NULL,

    CONSTRAINT "settings_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "setting_versions" (
    "tenant_id" UUID NOT NULL,
    "setting_id" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "state" TEXT NOT NULL,
    "storage" TEXT NOT NULL,
    "manager" TEXT NOT NULL,
    "data_key_id" UUID,
    "sealed" BYTEA,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID NOT NULL,
    "last_accessed_at" TIMESTAMPTZ(3),
    "mac" BYTEA NOT NULL,

    CONSTRAINT "setting_versions_pkey" PRIMARY KEY ("tenant_id","setting_id","version")
);

-- CreateTable
CREATE TABLE "path_ledger" (
    "tenant_id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "path" TEXT COLLATE "C" NOT NULL,
    "last_version" INTEGER NOT NULL,

    CONSTRAINT "path_ledger_pkey" PRIMARY KEY ("tenant_id","owner_type","owner_id","path")
);

-- CreateTable
CREATE TABLE "audit_events" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL,
    "principal_id" UUID,
    "token_id" UUID,
    "action" TEXT NOT NULL,
    "operation" TEXT NOT NULL,
    "outcome" TEXT NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID,
    "path" TEXT,
    "settings" JSONB NOT NULL,
    "target_id" UUID,
    "details" JSONB NOT NULL,
    "request_id" TEXT NOT NULL,
    "follows" UUID,
    "ip" TEXT,
    "user_agent" TEXT,
    "reason" TEXT,
    "count" INTEGER NOT NULL DEFAULT 1,
    "position" BIGINT,

    CONSTRAINT "audit_events_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "audit_tail" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "position" BIGINT NOT NULL DEFAULT 0,

    CONSTRAINT "audit_tail_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "removed_tenants" (
    "tenant_id" UUID NOT NULL,

    CONSTRAINT "removed_tenants_pkey" PRIMARY KEY ("tenant_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "organizations_name_key" ON "organizations"("name");

-- CreateIndex
CREATE UNIQUE INDEX "projects_organization_id_name_key" ON "projects"("organization_id", "name");

-- CreateIndex
CREATE UNIQUE INDEX "principals_email_key" ON "principals"("email");

-- CreateIndex
CREATE UNIQUE INDEX "principals_organization_id_name_key" ON "principals"("organization_id", "name");

-- CreateIndex
CREATE INDEX "enrolments_principal_id_idx" ON "enrolments"("principal_id");

-- CreateIndex
CREATE INDEX "memberships_principal_id_idx" ON "memberships"("principal_id");

-- CreateIndex
CREATE INDEX "memberships_tenant_id_idx" ON "memberships"("tenant_id");

-- CreateIndex
CREATE UNIQUE INDEX "tokens_hash_key" ON "tokens"("hash");

-- CreateIndex
CREATE INDEX "tokens_principal_id_idx" ON "tokens"("principal_id");

-- CreateIndex
CREATE INDEX "tokens_parent_id_idx" ON "tokens"("parent_id");

-- CreateIndex
CREATE INDEX "tokens_made_with_idx" ON "tokens"("made_with");

-- CreateIndex
CREATE UNIQUE INDEX "key_encryption_keys_tenant_id_manager_generation_key" ON "key_encryption_keys"("tenant_id", "manager", "generation");

-- CreateIndex
CREATE UNIQUE INDEX "data_keys_tenant_id_owner_type_owner_id_generation_key" ON "data_keys"("tenant_id", "owner_type", "owner_id", "generation");

-- CreateIndex
CREATE INDEX "settings_purge_at_idx" ON "settings"("purge_at");

-- CreateIndex
CREATE UNIQUE INDEX "settings_tenant_id_owner_type_owner_id_path_key" ON "settings"("tenant_id", "owner_type", "owner_id", "path");

-- CreateIndex
CREATE INDEX "audit_events_owner_id_id_idx" ON "audit_events"("owner_id", "id");

-- By hand from here on; `npm run check` sees that Prisma finds no difference all the same.

-- Closed sets, and what must hold of a row whoever writes it.
ALTER TABLE "instance" ADD CONSTRAINT "instance_single_check" CHECK ("id" = 1);
ALTER TABLE "principals"
  ADD CONSTRAINT "principals_kind_check" CHECK ("kind" IN ('user', 'service_account')),
  ADD CONSTRAINT "principals_organization_check" CHECK (("kind" = 'service_account') = ("organization_id" IS NOT NULL)),
  ADD CONSTRAINT "principals_admin_check" CHECK (NOT "admin" OR "kind" = 'user');
ALTER TABLE "enrolments" ADD CONSTRAINT "enrolments_code_hash_check" CHECK (octet_length("code_hash") = 32);
ALTER TABLE "memberships"
  ADD CONSTRAINT "memberships_owner_type_check" CHECK ("owner_type" IN ('organization', 'project')),
  ADD CONSTRAINT "memberships_tenant_check" CHECK ("owner_type" <> 'organization' OR "tenant_id" = "owner_id"),
  ADD CONSTRAINT "memberships_role_check" CHECK ("role" IN ('read', 'write', 'owner'));
ALTER TABLE "tokens"
  ADD CONSTRAINT "tokens_hash_check" CHECK (octet_length("hash") = 32),
  ADD CONSTRAINT "tokens_uses_check" CHECK ("uses" >= 0 AND ("max_uses" IS NULL OR "uses" <= "max_uses"));
ALTER TABLE "key_encryption_keys"
  ADD CONSTRAINT "key_encryption_keys_manager_check" CHECK ("manager" IN ('local', 'aws', 'gcp')),
  ADD CONSTRAINT "key_encryption_keys_sealed_check" CHECK ("manager" <> 'local' OR "sealed" IS NOT NULL);
ALTER TABLE "data_keys" ADD CONSTRAINT "data_keys_owner_type_check" CHECK ("owner_type" IN ('organization', 'project', 'user'));
ALTER TABLE "settings"
  ADD CONSTRAINT "settings_owner_type_check" CHECK ("owner_type" IN ('organization', 'project', 'user')),
  ADD CONSTRAINT "settings_tenant_check" CHECK ("owner_type" = 'project' OR "tenant_id" = "owner_id"),
  ADD CONSTRAINT "settings_type_check" CHECK ("type" IN ('custom', 's3', 'container_registry')),
  ADD CONSTRAINT "settings_labels_check" CHECK (jsonb_typeof("labels") = 'object'),
  ADD CONSTRAINT "settings_version_check" CHECK ("revision" > 0 AND "current_version" > 0),
  ADD CONSTRAINT "settings_deleted_check" CHECK (("deleted_at" IS NULL) = ("purge_at" IS NULL));
-- A destroyed version holds no bytes, and one that rests here holds them with their key.
ALTER TABLE "setting_versions"
  ADD CONSTRAINT "setting_versions_version_check" CHECK ("version" > 0),
  ADD CONSTRAINT "setting_versions_state_check" CHECK ("state" IN ('enabled', 'destroying', 'destroyed')),
  ADD CONSTRAINT "setting_versions_storage_check" CHECK ("storage" IN ('envelope', 'manager', 'external')),
  ADD CONSTRAINT "setting_versions_manager_check" CHECK ("manager" IN ('local', 'aws', 'gcp')),
  ADD CONSTRAINT "setting_versions_destroyed_check" CHECK ("state" <> 'destroyed' OR ("sealed" IS NULL AND "data_key_id" IS NULL)),
  ADD CONSTRAINT "setting_versions_sealed_check" CHECK (
    "storage" <> 'envelope' OR "state" <> 'enabled' OR ("sealed" IS NOT NULL AND "data_key_id" IS NOT NULL)
  );
ALTER TABLE "path_ledger" ADD CONSTRAINT "path_ledger_last_version_check" CHECK ("last_version" >= 0);
ALTER TABLE "audit_events"
  ADD CONSTRAINT "audit_events_outcome_check" CHECK ("outcome" IN ('allowed', 'denied', 'failed')),
  ADD CONSTRAINT "audit_events_owner_check" CHECK (
    "owner_type" IN ('organization', 'project', 'user', 'instance') AND ("owner_type" = 'instance') = ("owner_id" IS NULL)
  ),
  ADD CONSTRAINT "audit_events_settings_check" CHECK (jsonb_typeof("settings") = 'array');
ALTER TABLE "audit_tail" ADD CONSTRAINT "audit_tail_single_check" CHECK ("id" = 1);

-- Each event is in one of them: what a collector has yet to be given a position for, and what it reads.
CREATE INDEX "audit_events_unplaced_idx" ON "audit_events" ("tenant_id", "id") WHERE "position" IS NULL;
CREATE UNIQUE INDEX "audit_events_placed_idx" ON "audit_events" ("tenant_id", "position") WHERE "position" IS NOT NULL;
INSERT INTO "audit_tail" ("id", "position") VALUES (1, 0);

-- Room for last_accessed_at and last_used_at to be updated in place.
ALTER TABLE "settings" SET (fillfactor = 90);
ALTER TABLE "setting_versions" SET (fillfactor = 90);
ALTER TABLE "tokens" SET (fillfactor = 90);
