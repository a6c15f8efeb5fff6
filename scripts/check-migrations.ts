// Fails when prisma/migrations do not produce prisma/schema.prisma; prints the SQL that is missing.
import { diffSchema } from "./schema.ts";

const missing = await diffSchema();
if (missing !== undefined) {
  console.error(`prisma/migrations do not produce prisma/schema.prisma; missing:\n${missing}`);
  process.exit(1);
}
