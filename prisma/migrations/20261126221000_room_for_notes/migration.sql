-- When a row was last read or used is noted in it each minute. Where its page has room for another version of it, no index
-- is touched and the next reader of the page clears the old version away (PostgreSQL's heap-only tuples). Pages that are
-- written from now on have room; those that are there get some once their rows move.
ALTER TABLE "settings" SET (fillfactor = 75);
ALTER TABLE "setting_versions" SET (fillfactor = 75);
ALTER TABLE "setting_readers" SET (fillfactor = 85);
ALTER TABLE "tokens" SET (fillfactor = 75);
