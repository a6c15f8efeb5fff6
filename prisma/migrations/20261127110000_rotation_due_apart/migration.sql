-- When a setting's rotation is due has a column of its own, for the index. Over current_since, which each new version
-- moves, the index made every PUT write to all indexes of the table, also where nothing is ever due.
-- AlterTable
ALTER TABLE "settings" ADD COLUMN "rotate_due_at" TIMESTAMPTZ(3);

-- By hand from here on.

-- 24-hour days, as in the contract's rotation_due_at. It says when to look, and nothing else: what is due is found by the
-- columns that the row's MAC covers.
CREATE FUNCTION "coffer_rotation_due"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.rotate_due_at := NEW.current_since + NEW.rotate_after_days * interval '24 hours';
  RETURN NEW;
END $$;
CREATE TRIGGER rotation_due BEFORE INSERT OR UPDATE OF current_since, rotate_after_days ON settings
  FOR EACH ROW WHEN (NEW.rotate_after_days IS NOT NULL) EXECUTE FUNCTION coffer_rotation_due();
ALTER TABLE settings ENABLE ALWAYS TRIGGER rotation_due;

UPDATE settings SET rotate_after_days = rotate_after_days WHERE rotate_after_days IS NOT NULL;

DROP INDEX "settings_rotate_idx";
CREATE INDEX "settings_rotate_idx" ON "settings" ("rotate_due_at")
  WHERE "rotate_after_days" IS NOT NULL AND "deleted_at" IS NULL;
