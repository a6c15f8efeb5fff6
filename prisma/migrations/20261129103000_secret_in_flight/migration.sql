-- AlterTable
ALTER TABLE "managed_secrets" ADD COLUMN     "in_flight_until" TIMESTAMPTZ(3);
