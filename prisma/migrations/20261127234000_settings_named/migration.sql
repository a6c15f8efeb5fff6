-- What events of the log name, as it lies there, by their place among those asked for: so that later reads of the same
-- settings copy it (docs/decisions/0026). Left out is a row that is not the very one which a transaction wrote.
-- By its key, whatever is known of a month's part of the log: a plan is made once, and one that was made while the part
-- was empty would go through all of it, for each event, once it is full.
CREATE FUNCTION "coffer_settings_named"("tenants" UUID[], "events" UUID[], "by" TEXT[])
RETURNS TABLE ("n" BIGINT, "settings" JSONB) LANGUAGE plpgsql STABLE ROWS 32
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  RETURN QUERY SELECT q.n, e.settings
    FROM unnest("tenants", "events", "by") WITH ORDINALITY AS q (tenant_id, id, made_by, n)
    JOIN audit_events e ON e.tenant_id = q.tenant_id AND e.id = q.id AND e.xmin = q.made_by::xid8::xid;
END $$;
