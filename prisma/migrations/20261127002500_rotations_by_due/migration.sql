-- By when a rotation is due, and not by when the value is from: the look for what is due went through all settings that
-- have a `rotate_after_days`, each minute. A timestamp without a zone, since only that plus an interval is immutable.
DROP INDEX "settings_rotate_idx";
CREATE INDEX "settings_rotate_idx" ON "settings" ((("current_since" AT TIME ZONE 'UTC') + "rotate_after_days" * interval '24 hours'))
  WHERE "rotate_after_days" IS NOT NULL AND "deleted_at" IS NULL;
