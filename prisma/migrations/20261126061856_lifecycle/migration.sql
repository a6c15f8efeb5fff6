-- CreateTable
CREATE TABLE "setting_readers" (
    "tenant_id" UUID NOT NULL,
    "setting_id" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "principal_id" UUID NOT NULL,
    "last_read_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "setting_readers_pkey" PRIMARY KEY ("tenant_id","setting_id","version","principal_id")
);

-- CreateTable
CREATE TABLE "change_events" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL,
    "kind" TEXT NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "setting_id" UUID,
    "path" TEXT,
    "version" INTEGER,
    "principal_id" UUID,
    "details" JSONB NOT NULL,
    "position" BIGINT,

    CONSTRAINT "change_events_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "change_tail" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "position" BIGINT NOT NULL DEFAULT 0,

    CONSTRAINT "change_tail_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "lifecycle_notices" (
    "tenant_id" UUID NOT NULL,
    "subject_id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "marker" TEXT NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "lifecycle_notices_pkey" PRIMARY KEY ("tenant_id","subject_id","kind","marker")
);

-- CreateTable
CREATE TABLE "webhooks" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "url" TEXT NOT NULL,
    "description" TEXT,
    "events" TEXT[],
    "sealed" BYTEA NOT NULL,
    "disabled_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "webhooks_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "webhook_deliveries" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "webhook_id" UUID NOT NULL,
    "event_id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "body" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "next_attempt_at" TIMESTAMPTZ(3) NOT NULL,
    "last_attempt_at" TIMESTAMPTZ(3),
    "last_status" INTEGER,
    "last_flaw" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "ended_at" TIMESTAMPTZ(3),

    CONSTRAINT "webhook_deliveries_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateTable
CREATE TABLE "rotations" (
    "tenant_id" UUID NOT NULL,
    "id" UUID NOT NULL,
    "owner_type" TEXT NOT NULL,
    "owner_id" UUID NOT NULL,
    "path" TEXT NOT NULL,
    "setting_id" UUID NOT NULL,
    "old_version" INTEGER NOT NULL,
    "new_version" INTEGER NOT NULL,
    "state" TEXT NOT NULL,
    "overlap_seconds" INTEGER NOT NULL,
    "destroy_old" BOOLEAN NOT NULL,
    "public_part" BYTEA,
    "webhook_id" UUID,
    "confirm_by" TIMESTAMPTZ(3),
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "next_at" TIMESTAMPTZ(3),
    "reason" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "created_by" UUID NOT NULL,
    "activated_at" TIMESTAMPTZ(3),
    "ended_at" TIMESTAMPTZ(3),

    CONSTRAINT "rotations_pkey" PRIMARY KEY ("tenant_id","id")
);

-- CreateIndex
CREATE INDEX "change_events_at_idx" ON "change_events"("at");

-- CreateIndex
CREATE INDEX "webhooks_tenant_id_owner_type_owner_id_idx" ON "webhooks"("tenant_id", "owner_type", "owner_id");

-- CreateIndex
CREATE UNIQUE INDEX "webhook_deliveries_tenant_id_webhook_id_event_id_key" ON "webhook_deliveries"("tenant_id", "webhook_id", "event_id");

-- CreateIndex
CREATE INDEX "rotations_tenant_id_setting_id_idx" ON "rotations"("tenant_id", "setting_id");

-- By hand from here on.
ALTER TABLE "change_events"
  ADD CONSTRAINT "change_events_owner_type_check" CHECK ("owner_type" IN ('organization', 'project', 'user', 'instance')),
  ADD CONSTRAINT "change_events_details_check" CHECK (jsonb_typeof("details") = 'object');
ALTER TABLE "change_tail" ADD CONSTRAINT "change_tail_single_check" CHECK ("id" = 1);
INSERT INTO "change_tail" ("id", "position") VALUES (1, 0);
ALTER TABLE "webhooks"
  ADD CONSTRAINT "webhooks_owner_type_check" CHECK ("owner_type" IN ('organization', 'project', 'user')),
  ADD CONSTRAINT "webhooks_tenant_check" CHECK ("owner_type" = 'project' OR "tenant_id" = "owner_id");
ALTER TABLE "webhook_deliveries"
  ADD CONSTRAINT "webhook_deliveries_state_check" CHECK ("state" IN ('pending', 'delivered', 'dead'));
ALTER TABLE "rotations"
  ADD CONSTRAINT "rotations_state_check" CHECK ("state" IN ('pending', 'overlap', 'done', 'fallen_back')),
  ADD CONSTRAINT "rotations_pending_check" CHECK ("state" <> 'pending' OR ("webhook_id" IS NOT NULL AND "confirm_by" IS NOT NULL)),
  ADD CONSTRAINT "rotations_next_check" CHECK (("next_at" IS NOT NULL) = ("state" IN ('pending', 'overlap')));

-- What has no position yet, and what a listener reads.
CREATE INDEX "change_events_unplaced_idx" ON "change_events" ("id") WHERE "position" IS NULL;
CREATE UNIQUE INDEX "change_events_placed_idx" ON "change_events" ("position") WHERE "position" IS NOT NULL;
-- What there is to do, and nothing else: what is done leaves these.
CREATE INDEX "webhook_deliveries_due_idx" ON "webhook_deliveries" ("webhook_id", "next_attempt_at") WHERE "state" = 'pending';
CREATE INDEX "webhook_deliveries_ended_idx" ON "webhook_deliveries" ("ended_at") WHERE "state" <> 'pending';
CREATE INDEX "rotations_next_idx" ON "rotations" ("next_at") WHERE "next_at" IS NOT NULL;
-- A setting has one rotation that waits for its hook at the most.
CREATE UNIQUE INDEX "rotations_pending_idx" ON "rotations" ("tenant_id", "setting_id") WHERE "state" = 'pending';
CREATE INDEX "settings_expires_idx" ON "settings" ("expires_at") WHERE "expires_at" IS NOT NULL AND "deleted_at" IS NULL;
CREATE INDEX "settings_rotate_idx" ON "settings" ("current_since") WHERE "rotate_after_days" IS NOT NULL AND "deleted_at" IS NULL;
CREATE INDEX "audit_events_denied_idx" ON "audit_events" ("at") WHERE "outcome" = 'denied';
-- Room for last_read_at to be updated in place.
ALTER TABLE "setting_readers" SET (fillfactor = 90);
