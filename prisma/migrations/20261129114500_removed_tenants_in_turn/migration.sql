-- AlterTable
ALTER TABLE "removed_tenants" ADD COLUMN     "nth" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "position" BIGINT NOT NULL DEFAULT 0;
