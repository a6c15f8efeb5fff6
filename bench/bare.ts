// The yardstick: Fastify with one route, a response of fixed bytes, and nothing else.
import Fastify from "fastify";

const body = process.env["BENCH_BODY"] ?? "{}";
const app = Fastify();
app.get("/settings", (_request, reply) => {
  reply.type("application/json; charset=utf-8").send(body);
});
const address = await app.listen({ host: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ address: `${address}/settings` }));
process.once("SIGTERM", () => void app.close().then(() => process.exit(0)));
