-- What was written lately, and by which transaction: so that a read whose answer is known from before asks whether
-- anything that it rests on was written since, and not for the rows again (docs/decisions/0023).

-- CreateTable
CREATE TABLE "recent_writes" (
    "about" UUID NOT NULL,
    "written_by" BIGINT NOT NULL,

    CONSTRAINT "recent_writes_pkey" PRIMARY KEY ("about", "written_by")
);

-- CreateTable
CREATE TABLE "recent_writes_from" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "written_by" BIGINT NOT NULL,

    CONSTRAINT "recent_writes_from_pkey" PRIMARY KEY ("id")
);

-- By hand from here on.

-- Of transactions from this one on, all writes are there. Neither table may be unlogged: when a process of PostgreSQL's
-- crashes, an unlogged table is emptied, and the time at which the server started stays what it was.
INSERT INTO "recent_writes_from" ("id", "written_by") VALUES (1, 0);

-- Notes what a statement wrote about: a row's id, or the id of the owner whose row it is. Only rows are added, one for
-- each owner and transaction, so that no writer ever waits for another. It runs as the owner of the tables: the role
-- that serves can take no note away. When a row was last read or used is not noted, where the statement says that it
-- writes nothing else (src/store/access-notes-sql.ts): each minute all that is in use would be written about.
CREATE FUNCTION "coffer_note_writes"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
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
    WHEN 'version' THEN
      INSERT INTO recent_writes SELECT DISTINCT s.owner_id, (SELECT pg_current_xact_id()::text::bigint)
        FROM written v JOIN settings s ON s.tenant_id = v.tenant_id AND s.id = v.setting_id ON CONFLICT DO NOTHING;
    WHEN 'all' THEN
      UPDATE recent_writes_from SET written_by = pg_current_xact_id()::text::bigint + 1;
  END CASE;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION "coffer_note_writes"() FROM PUBLIC;

-- Forgets what was written before a transaction. Whatever rests on what was read before it is not believed any more from
-- then on, so that it is safe to forget anything; too much only costs time. Numbers from another server's time (a dump
-- that was put back) are ahead of this one's, and go as well. One at a time, and the lock first: each statement after it
-- asks a snapshot of its own, which has seen whatever made the numbers that it finds; but for this transaction's own.
CREATE FUNCTION "coffer_forget_writes"("before" BIGINT) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  own BIGINT;
BEGIN
  PERFORM FROM recent_writes_from FOR UPDATE;
  own := pg_current_xact_id()::text::bigint;
  "before" := least("before", pg_snapshot_xmin(pg_current_snapshot())::text::bigint);
  UPDATE recent_writes_from SET written_by = "before" WHERE written_by < "before"
    OR written_by > greatest(own + 1, pg_snapshot_xmax(pg_current_snapshot())::text::bigint);
  DELETE FROM recent_writes WHERE written_by < "before"
    OR written_by > greatest(own, pg_snapshot_xmax(pg_current_snapshot())::text::bigint);
END $$;
REVOKE ALL ON FUNCTION "coffer_forget_writes"(BIGINT) FROM PUBLIC;

-- Last of all in what is temporary: else whoever serves could have its own tables taken for these, with the owner's rights.
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION coffer_note_writes() SET search_path TO %I, pg_temp', current_schema());
  EXECUTE format('ALTER FUNCTION coffer_forget_writes(bigint) SET search_path TO %I, pg_temp', current_schema());
END $$;

-- What a read's answer rests on. A version that comes is shown only once its setting names it; a token, a principal, a
-- provider or a place that comes was nobody's before. Rows that are emptied away leave no word of which they were. And
-- always: not only in sessions with an ordinary session_replication_role. All are locked first, in the order in which
-- writers come to them.
DO $$
DECLARE
  t record;
  event text;
  seen text;
BEGIN
  LOCK TABLE tokens, identity_providers, memberships, principals, projects, organizations, settings, setting_versions
    IN SHARE ROW EXCLUSIVE MODE;
  FOR t IN
    SELECT * FROM (VALUES
      ('settings', 'owner', '{INSERT,UPDATE,DELETE}'::text[]),
      ('setting_versions', 'version', '{UPDATE,DELETE}'),
      ('memberships', 'owner', '{INSERT,UPDATE,DELETE}'),
      ('organizations', 'row', '{UPDATE,DELETE}'),
      ('projects', 'row', '{UPDATE,DELETE}'),
      ('principals', 'row', '{UPDATE,DELETE}'),
      ('tokens', 'row', '{UPDATE,DELETE}'),
      ('identity_providers', 'row', '{UPDATE,DELETE}')
    ) AS tables (name, by_what, events)
  LOOP
    FOREACH event IN ARRAY t.events LOOP
      seen := CASE
        WHEN event = 'INSERT' THEN 'NEW TABLE AS written'
        WHEN event = 'UPDATE' AND t.by_what = 'owner' THEN 'OLD TABLE AS written NEW TABLE AS became'
        ELSE 'OLD TABLE AS written' END;
      EXECUTE format('CREATE TRIGGER %I AFTER %s ON %I REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION coffer_note_writes(%L)',
        'note_' || lower(event), event, t.name, seen, t.by_what);
      EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', t.name, 'note_' || lower(event));
    END LOOP;
    EXECUTE format('CREATE TRIGGER note_truncate AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION coffer_note_writes(''all'')', t.name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER note_truncate', t.name);
  END LOOP;
END $$;

-- The role that serves already may look: prisma/serving-role.sql gives the same.
DO $$
DECLARE
  serving regrole;
BEGIN
  FOR serving IN
    SELECT DISTINCT a.grantee::regrole FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = 'settings'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner AND a.grantee <> 0
  LOOP
    EXECUTE format('GRANT SELECT ON recent_writes, recent_writes_from TO %s', serving);
    EXECUTE format('GRANT EXECUTE ON FUNCTION coffer_forget_writes(bigint) TO %s', serving);
  END LOOP;
END $$;
