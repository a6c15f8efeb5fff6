-- Refusals that come together are counted together: a count may grow by more than one. As before, it never shrinks, and
-- what has its position is frozen.
CREATE OR REPLACE TRIGGER "audit_events_frozen" BEFORE UPDATE ON "audit_events" FOR EACH ROW
  WHEN (
    OLD."position" IS NOT NULL
    OR NEW."count" < OLD."count"
    OR (NEW."principal_id" IS NOT NULL AND NEW."principal_id" IS DISTINCT FROM OLD."principal_id")
    OR (NEW."token_id" IS NOT NULL AND NEW."token_id" IS DISTINCT FROM OLD."token_id")
  )
  EXECUTE FUNCTION "coffer_audit_frozen"();
