// What a broker is to the embedded PostgreSQL: it starts it, says where it is, and stops it when asked to end.
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";

const server = await startEmbeddedPostgres({ home: process.argv[2] ?? "" });
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => void server.stop().then(() => process.exit(0)));
}
setInterval(() => undefined, 60_000);
console.log(JSON.stringify({ url: server.url, pid: server.pid }));
