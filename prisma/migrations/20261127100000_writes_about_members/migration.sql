-- What is written of a member is about the principal, not about the owner: an owner's settings are written far more often
-- than its members, and an organization's members have a say at all of its projects. And forgetting is made safe where
-- numbers from another server's time are in the way, and bounded (docs/decisions/0023).

CREATE OR REPLACE FUNCTION "coffer_note_writes"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('settings', 'setting_versions', 'tokens')
    AND current_setting('coffer.only_last_use', TRUE) = 'on' THEN
    RETURN NULL;
  END IF;
  CASE TG_ARGV[0]
    WHEN 'row' THEN
      INSERT INTO recent_writes SELECT id, (SELECT pg_current_xact_id()::text::bigint) FROM written ON CONFLICT DO NOTHING;
    WHEN 'owner' THEN
      -- Where a row went to another owner, both were written about.
      IF TG_OP = 'UPDATE' THEN
        INSERT INTO recent_writes SELECT owner_id, (SELECT pg_current_xact_id()::text::bigint)
          FROM (SELECT owner_id FROM written UNION SELECT owner_id FROM became) both_of_them ON CONFLICT DO NOTHING;
      ELSE
        INSERT INTO recent_writes SELECT DISTINCT owner_id, (SELECT pg_current_xact_id()::text::bigint)
          FROM written ON CONFLICT DO NOTHING;
      END IF;
    WHEN 'principal' THEN
      IF TG_OP = 'UPDATE' THEN
        INSERT INTO recent_writes SELECT principal_id, (SELECT pg_current_xact_id()::text::bigint)
          FROM (SELECT principal_id FROM written UNION SELECT principal_id FROM became) both_of_them ON CONFLICT DO NOTHING;
      ELSE
        INSERT INTO recent_writes SELECT DISTINCT principal_id, (SELECT pg_current_xact_id()::text::bigint)
          FROM written ON CONFLICT DO NOTHING;
      END IF;
    WHEN 'version' THEN
      INSERT INTO recent_writes SELECT DISTINCT s.owner_id, (SELECT pg_current_xact_id()::text::bigint)
        FROM written v JOIN settings s ON s.tenant_id = v.tenant_id AND s.id = v.setting_id ON CONFLICT DO NOTHING;
    WHEN 'all' THEN
      UPDATE recent_writes_from SET written_by = pg_current_xact_id()::text::bigint + 1;
  END CASE;
  RETURN NULL;
END $$;

-- Forgets what was written before a transaction. Whatever rests on what was read before it is not believed any more from
-- then on, so that it is safe to forget anything, and to leave some for the next time; too much only costs time. One at a
-- time, and the lock first: each statement after it asks a snapshot of its own, which has seen whatever made the numbers
-- that it finds; but for this transaction's own.
--
-- Numbers from another server's time (a dump that was put back) are ahead of this one's, and go as well. A transaction
-- that is under way may have one of those numbers, and have noted nothing since the note was there: it is waited for.
CREATE OR REPLACE FUNCTION "coffer_forget_writes"("before" BIGINT) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  own BIGINT;
BEGIN
  PERFORM FROM recent_writes_from FOR UPDATE;
  own := pg_current_xact_id()::text::bigint;
  "before" := least("before", pg_snapshot_xmin(pg_current_snapshot())::text::bigint);
  UPDATE recent_writes_from SET written_by = "before" WHERE written_by < "before"
    OR written_by > greatest(own + 1, pg_snapshot_xmax(pg_current_snapshot())::text::bigint);
  IF EXISTS (SELECT FROM recent_writes WHERE written_by > greatest(own, pg_snapshot_xmax(pg_current_snapshot())::text::bigint)) THEN
    LOCK TABLE recent_writes IN SHARE ROW EXCLUSIVE MODE;
  END IF;
  DELETE FROM recent_writes WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM recent_writes WHERE (written_by > 0 AND written_by < "before")
      OR written_by > greatest(own, pg_snapshot_xmax(pg_current_snapshot())::text::bigint) LIMIT 1000000));
END $$;

-- Making a function anew takes its settings from it.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION coffer_note_writes() SET search_path TO %I, pg_temp', current_schema());
  EXECUTE format('ALTER FUNCTION coffer_forget_writes(bigint) SET search_path TO %I, pg_temp', current_schema());
END $$;

-- Rows about nobody, which nothing forgets. Once a vacuum has found the table empty, PostgreSQL plans to go through all of
-- it, and keeps that plan while the table fills: one owner's writes then slowed everybody's reads.
INSERT INTO "recent_writes" SELECT gen_random_uuid(), 0 FROM generate_series(1, 2000);

DO $$
DECLARE
  event text;
  seen text;
BEGIN
  LOCK TABLE memberships IN SHARE ROW EXCLUSIVE MODE;
  FOREACH event IN ARRAY '{INSERT,UPDATE,DELETE}'::text[] LOOP
    seen := CASE event
      WHEN 'INSERT' THEN 'NEW TABLE AS written'
      WHEN 'UPDATE' THEN 'OLD TABLE AS written NEW TABLE AS became'
      ELSE 'OLD TABLE AS written' END;
    -- Replaced, and not dropped first: that would keep readers waiting, and each admission is one.
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON memberships REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION coffer_note_writes(''principal'')',
      'note_' || lower(event), event, seen);
    EXECUTE format('ALTER TABLE memberships ENABLE ALWAYS TRIGGER %I', 'note_' || lower(event));
  END LOOP;
  -- Who was read before this rests on notes about owners.
  UPDATE recent_writes_from SET written_by = pg_current_xact_id()::text::bigint + 1;
END $$;
