-- The rights of the role that serves, given by the owner of the tables. `coffer migrate --serving-role NAME` runs this
-- after the migrations; by hand:
--   PGOPTIONS="-c coffer.serving_role=coffer_serve" psql --file=prisma/serving-role.sql "$OWNER_DATABASE_URL"
-- It may be run again at any time. In one transaction: all of it or nothing.
DO $$
DECLARE
  serving text := current_setting('coffer.serving_role');
  schema_name text := current_schema();
  t record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = serving) THEN
    RAISE EXCEPTION 'there is no role %: create it first', serving;
  END IF;
  IF pg_has_role(serving, current_user, 'MEMBER') OR (SELECT rolsuper FROM pg_roles WHERE rolname = serving) THEN
    RAISE EXCEPTION 'the role % can do all that the owner can: it would not be the lesser one', serving;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema_name, serving);
  EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', schema_name, serving);
  FOR t IN
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = schema_name::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND c.relname NOT IN ('audit_events', 'audit_seals', 'audit_tail', 'removed_tenants', '_prisma_migrations',
        'recent_writes', 'recent_writes_from')
  LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO %I', schema_name, t.relname, serving);
  END LOOP;
  -- Append-only: the two columns that a place and a count need, and the two that a count takes away. The trigger
  -- audit_events_frozen has the rest of the rule.
  EXECUTE format('GRANT SELECT, INSERT, UPDATE ("position", "count", principal_id, token_id) ON %I.audit_events TO %I', schema_name, serving);
  EXECUTE format('GRANT SELECT, INSERT ON %I.audit_seals TO %I', schema_name, serving);
  EXECUTE format('GRANT SELECT, UPDATE ("position") ON %I.audit_tail TO %I', schema_name, serving);
  EXECUTE format('GRANT SELECT, INSERT ON %I.removed_tenants TO %I', schema_name, serving);
  EXECUTE format('GRANT SELECT ON %I._prisma_migrations TO %I', schema_name, serving);
  EXECUTE format('GRANT EXECUTE ON FUNCTION %I.coffer_audit_months(integer) TO %I', schema_name, serving);
  EXECUTE format('GRANT EXECUTE ON FUNCTION %I.coffer_settings_named(uuid[], uuid[], text[], uuid, uuid) TO %I', schema_name, serving);
  -- A trigger notes what is written, as the owner: nobody who serves can take a note away before its time.
  EXECUTE format('GRANT SELECT ON %1$I.recent_writes, %1$I.recent_writes_from TO %2$I', schema_name, serving);
  EXECUTE format('GRANT EXECUTE ON FUNCTION %I.coffer_forget_writes(bigint) TO %I', schema_name, serving);
END $$;
