-- The audit log becomes tamper-evident: seals over its events, months as partitions, and placed events that are frozen.
-- Replicas of the version before go on serving meanwhile; their refusals that come more than 15 s after their minute
-- are answered 503, since what is placed does not change any more.

-- AlterTable
ALTER TABLE "instance" ADD COLUMN     "version_floor" INTEGER NOT NULL DEFAULT 0;

-- CreateTable
CREATE TABLE "audit_seals" (
    "number" BIGINT NOT NULL,
    "previous" BYTEA,
    "first_position" BIGINT NOT NULL,
    "last_position" BIGINT NOT NULL,
    "count" INTEGER NOT NULL,
    "events_hash" BYTEA NOT NULL,
    "leaves" BYTEA,
    "kept_from" TIMESTAMPTZ(3),
    "sealed_at" TIMESTAMPTZ(3) NOT NULL,
    "key_id" TEXT NOT NULL,
    "hash" BYTEA NOT NULL,
    "signature" BYTEA NOT NULL,

    CONSTRAINT "audit_seals_pkey" PRIMARY KEY ("number")
);

-- By hand from here on.

-- Hashes do not compress: PostgreSQL need not try.
ALTER TABLE "audit_seals" ALTER COLUMN "leaves" SET STORAGE EXTERNAL;

-- One at a time gives positions; the index over all months cannot be unique, since they are no part of the months' key.
DROP INDEX "audit_events_placed_idx";

-- A seal covers positions without a gap. Where the version before gave an event a second position (a count that grew late)
-- there is one: those before it move up, so that no collector's cursor passes over an event.
UPDATE "audit_events" a SET "position" = moved."position"
FROM (
  SELECT "tenant_id", "id", max("position") OVER () - row_number() OVER (ORDER BY "position" DESC) + 1 AS "position"
  FROM "audit_events" WHERE "position" IS NOT NULL
) moved
WHERE a."tenant_id" = moved."tenant_id" AND a."id" = moved."id" AND a."position" <> moved."position";

-- The table there is becomes the first partition, of all events up to the end of this month. An event's id tells when
-- it was made, and is in the primary key already: so months are ranges of ids, and no key changes.
ALTER TABLE "audit_events" RENAME TO "audit_events_before";
ALTER TABLE "audit_events_before" RENAME CONSTRAINT "audit_events_pkey" TO "audit_events_before_pkey";

CREATE TABLE "audit_events" (
    LIKE "audit_events_before" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE
) PARTITION BY RANGE ("id");
ALTER TABLE "audit_events" ADD CONSTRAINT "audit_events_pkey" PRIMARY KEY ("tenant_id", "id");
-- Whatever other indexes there are: the same on the whole, of which the old ones become a part.
DO $$
DECLARE
  i record;
BEGIN
  FOR i IN
    SELECT indexname AS name, indexdef AS definition FROM pg_indexes
    WHERE schemaname = current_schema() AND tablename = 'audit_events_before' AND indexname <> 'audit_events_before_pkey'
  LOOP
    EXECUTE format('ALTER INDEX %I RENAME TO %I', i.name, replace(i.name, 'audit_events_', 'audit_events_before_'));
    EXECUTE replace(i.definition, 'audit_events_before', 'audit_events');
  END LOOP;
END $$;
CREATE INDEX "audit_events_placed_idx" ON "audit_events" ("tenant_id", "position") WHERE "position" IS NOT NULL;
-- What the sealer and the verifier read by, whosever events they are.
CREATE INDEX "audit_events_position_idx" ON "audit_events" ("position") WHERE "position" IS NOT NULL;

-- The smallest id that an event of a time can have: the first 48 bits of a UUIDv7 are its milliseconds.
CREATE FUNCTION "coffer_audit_bound"("at" TIMESTAMPTZ) RETURNS UUID LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT rpad(lpad(to_hex((extract(epoch FROM "at") * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- What belongs to no month that there is (a clock far off, a month that nobody made in time) is kept here: an event
-- is never refused for want of a partition.
CREATE TABLE "audit_events_default" PARTITION OF "audit_events" DEFAULT;

DO $$
DECLARE
  bound uuid := coffer_audit_bound(date_trunc('month', now(), 'UTC') + interval '1 month');
BEGIN
  INSERT INTO audit_events_default SELECT * FROM audit_events_before WHERE id >= bound;
  DELETE FROM audit_events_before WHERE id >= bound;
  EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION audit_events_before FOR VALUES FROM (MINVALUE) TO (%L)', bound);
END $$;

-- Makes the partitions of the next months, where they are missing; answers how many it made. It runs as the owner of
-- the tables, so that the role that serves needs no right to make any, and it can do nothing else. Nobody but the
-- owner is given a right at a partition: all go by way of audit_events.
CREATE FUNCTION "coffer_audit_months"("ahead" INTEGER) RETURNS INTEGER LANGUAGE plpgsql SECURITY DEFINER
  SET search_path FROM CURRENT AS $$
DECLARE
  schema_name text := current_schema();
  month timestamp;
  name text;
  low uuid;
  high uuid;
  grantee regrole;
  made integer := 0;
BEGIN
  -- One at a time; who comes second finds them made.
  PERFORM pg_advisory_xact_lock(7420202611260001);
  FOR step IN 1..least("ahead", 12) LOOP
    month := date_trunc('month', now() AT TIME ZONE 'UTC') + step * interval '1 month';
    name := 'audit_events_' || to_char(month, 'YYYY_MM');
    CONTINUE WHEN to_regclass(format('%I.%I', schema_name, name)) IS NOT NULL;
    low := coffer_audit_bound(month AT TIME ZONE 'UTC');
    high := coffer_audit_bound((month + interval '1 month') AT TIME ZONE 'UTC');
    -- Not PARTITION OF, which would stop all who write meanwhile.
    EXECUTE format('CREATE TABLE %1$I.%2$I (LIKE %1$I.audit_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', schema_name, name);
    EXECUTE format('INSERT INTO %1$I.%2$I SELECT * FROM %1$I.audit_events_default WHERE id >= %3$L AND id < %4$L', schema_name, name, low, high);
    EXECUTE format('DELETE FROM %I.audit_events_default WHERE id >= %L AND id < %L', schema_name, low, high);
    EXECUTE format('ALTER TABLE %1$I.audit_events ATTACH PARTITION %1$I.%2$I FOR VALUES FROM (%3$L) TO (%4$L)', schema_name, name, low, high);
    FOR grantee IN
      SELECT DISTINCT a.grantee::regrole FROM pg_class c, aclexplode(c.relacl) a
      WHERE c.oid = format('%I.%I', schema_name, name)::regclass AND a.grantee <> c.relowner AND a.grantee <> 0
    LOOP
      EXECUTE format('REVOKE ALL ON %I.%I FROM %s', schema_name, name, grantee);
    END LOOP;
    made := made + 1;
  END LOOP;
  RETURN made;
END $$;
REVOKE ALL ON FUNCTION "coffer_audit_months"(INTEGER) FROM PUBLIC;

-- What has its position is frozen, whoever asks; before that a count may grow by one, and a name may go.
CREATE FUNCTION "coffer_audit_frozen"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'an audit event does not change' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER "audit_events_frozen" BEFORE UPDATE ON "audit_events" FOR EACH ROW
  WHEN (
    OLD."position" IS NOT NULL
    OR NEW."count" NOT IN (OLD."count", OLD."count" + 1)
    OR (NEW."principal_id" IS NOT NULL AND NEW."principal_id" IS DISTINCT FROM OLD."principal_id")
    OR (NEW."token_id" IS NOT NULL AND NEW."token_id" IS DISTINCT FROM OLD."token_id")
  )
  EXECUTE FUNCTION "coffer_audit_frozen"();

SELECT coffer_audit_months(3);
