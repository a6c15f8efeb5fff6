-- What events of the log name, as it lies there, by their place among those asked for: so that later reads of the same
-- settings copy it (docs/decisions/0026). Left out is a row that is not the very one which a transaction wrote.
-- It is planned at each call, for the events from "first" to "last": a plan that was made while a month's part of the log
-- was empty would go through all of it once it is full, and one for any events would lock, and open, every month there is.
CREATE FUNCTION "coffer_settings_named"("tenants" UUID[], "events" UUID[], "by" TEXT[], "first" UUID, "last" UUID)
RETURNS TABLE ("n" BIGINT, "settings" JSONB) LANGUAGE plpgsql STABLE ROWS 32
  SET plan_cache_mode = force_custom_plan AS $$
BEGIN
  RETURN QUERY SELECT q.n, named.settings
    FROM unnest("tenants", "events", "by") WITH ORDINALITY AS q (tenant_id, id, made_by, n)
    CROSS JOIN LATERAL (
      SELECT e.settings FROM audit_events e
      WHERE e.tenant_id = q.tenant_id AND e.id = q.id AND e.id BETWEEN "first" AND "last"
        AND e.xmin = q.made_by::xid8::xid LIMIT 1) named;
END $$;
