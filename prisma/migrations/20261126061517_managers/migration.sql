-- DropIndex
DROP INDEX "data_keys_tenant_id_owner_type_owner_id_generation_key";

-- AlterTable
ALTER TABLE "data_keys" ADD COLUMN     "manager" TEXT NOT NULL DEFAULT 'local';

-- AlterTable
ALTER TABLE "instance" ADD COLUMN     "keys_rotated_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "setting_versions" ADD COLUMN     "location" JSONB;

-- CreateTable
CREATE TABLE "managed_secrets" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "purpose" TEXT NOT NULL,
    "manager" TEXT NOT NULL,
    "address" JSONB NOT NULL,
    "version_id" TEXT,
    "owner_type" TEXT,
    "owner_id" UUID,
    "path" TEXT,
    "setting_id" UUID,
    "lease_id" UUID,
    "lease_until" TIMESTAMPTZ(3),
    "unsettled_at" TIMESTAMPTZ(3),
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "next_try_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "mac" BYTEA,

    CONSTRAINT "managed_secrets_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "owner_managers" (
    "tenant_id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "storage" TEXT NOT NULL,
    "manager" TEXT NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL,
    "updated_by" UUID NOT NULL,

    CONSTRAINT "owner_managers_pkey" PRIMARY KEY ("tenant_id","owner_type","owner_id")
);

-- CreateTable
CREATE TABLE "moves" (
    "tenant_id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "storage" TEXT NOT NULL,
    "manager" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "total" INTEGER NOT NULL,
    "done" INTEGER NOT NULL,
    "failed" JSONB NOT NULL,
    "cursor" TEXT,
    "lease_id" UUID,
    "lease_until" TIMESTAMPTZ(3),
    "started_at" TIMESTAMPTZ(3) NOT NULL,
    "started_by" UUID NOT NULL,
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "moves_pkey" PRIMARY KEY ("tenant_id","owner_type","owner_id")
);

-- CreateIndex
CREATE INDEX "managed_secrets_id_idx" ON "managed_secrets"("id");

-- CreateIndex
CREATE INDEX "managed_secrets_tenant_id_owner_type_owner_id_path_idx" ON "managed_secrets"("tenant_id", "owner_type", "owner_id", "path");

-- CreateIndex
CREATE INDEX "managed_secrets_tenant_id_setting_id_idx" ON "managed_secrets"("tenant_id", "setting_id");

-- CreateIndex
CREATE INDEX "moves_state_idx" ON "moves"("state");

-- CreateIndex
CREATE UNIQUE INDEX "data_keys_tenant_id_owner_type_owner_id_manager_generation_key" ON "data_keys"("tenant_id", "owner_type", "owner_id", "manager", "generation");

-- By hand from here on.
ALTER TABLE "data_keys" ADD CONSTRAINT "data_keys_manager_check" CHECK ("manager" IN ('local', 'aws', 'gcp'));
-- Outside an envelope the row says where the value lies, for as long as there is one.
ALTER TABLE "setting_versions" ADD CONSTRAINT "setting_versions_location_check" CHECK (
  CASE WHEN "storage" = 'envelope' OR "state" = 'destroyed' THEN "location" IS NULL
    ELSE "location" IS NOT NULL AND jsonb_typeof("location") = 'object' END
);
ALTER TABLE "managed_secrets"
  ADD CONSTRAINT "managed_secrets_purpose_check" CHECK ("purpose" IN ('setting', 'key_encryption_key', 'master_key')),
  ADD CONSTRAINT "managed_secrets_mac_check" CHECK (("purpose" = 'master_key') = ("mac" IS NULL)),
  ADD CONSTRAINT "managed_secrets_manager_check" CHECK ("manager" IN ('aws', 'gcp')),
  ADD CONSTRAINT "managed_secrets_setting_check" CHECK (
    ("purpose" = 'setting') = ("setting_id" IS NOT NULL AND "owner_type" IS NOT NULL AND "owner_id" IS NOT NULL AND "path" IS NOT NULL)
  );
-- What the sweeper looks for: few rows of many.
CREATE INDEX "managed_secrets_sweep_idx" ON "managed_secrets" ("next_try_at")
  WHERE "unsettled_at" IS NOT NULL OR "lease_until" IS NOT NULL;
-- An instance has one master key.
CREATE UNIQUE INDEX "managed_secrets_master_key_idx" ON "managed_secrets" ("purpose") WHERE "purpose" = 'master_key';
-- Which setting holds a secret that somebody has a note of: by its resource, or by its name without what makes it an ARN.
CREATE INDEX "setting_versions_location_idx" ON "setting_versions" ((
    regexp_replace(coalesce("location" ->> 'secret_id', "location" ->> 'resource'), '^arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(.*)-[A-Za-z0-9]{6}$', '\1')
  )) WHERE "location" IS NOT NULL;
ALTER TABLE "owner_managers"
  ADD CONSTRAINT "owner_managers_owner_type_check" CHECK ("owner_type" IN ('organization', 'project')),
  ADD CONSTRAINT "owner_managers_storage_check" CHECK ("storage" IN ('envelope', 'manager') AND ("storage" = 'envelope' OR "manager" <> 'local')),
  ADD CONSTRAINT "owner_managers_manager_check" CHECK ("manager" IN ('local', 'aws', 'gcp'));
ALTER TABLE "moves"
  ADD CONSTRAINT "moves_state_check" CHECK ("state" IN ('running', 'done', 'failed')),
  ADD CONSTRAINT "moves_failed_check" CHECK (jsonb_typeof("failed") = 'array');
