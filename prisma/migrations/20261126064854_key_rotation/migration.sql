-- AlterTable
ALTER TABLE "data_keys" ADD COLUMN     "unused_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "instance" ADD COLUMN     "previous_key_check" BYTEA;
