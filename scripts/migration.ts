// `npm run migration -- <name>`: writes what prisma/schema.prisma has and prisma/migrations lack as a new migration.
import { createMigration } from "./schema.ts";

const name = process.argv[2];
if (!name || !/^[a-z][a-z0-9_]*$/.test(name)) {
  console.error("usage: npm run migration -- <name_in_lower_case>");
  process.exit(2);
}
console.log((await createMigration(name)) ?? "The migrations already produce the schema; nothing to write.");
