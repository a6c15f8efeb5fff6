// The yardstick: Fastify that answers each case's fixed bytes and does nothing else; and, at /open, one that opens
// twenty sealed values before it answers, which is the least that a broker has to do for them.
import { createSecretKey, randomBytes } from "node:crypto";
import Fastify from "fastify";
import { associatedData, openBytes, sealBytes } from "../src/sealing/envelope.ts";

export type BareAnswer = { readonly status: number; readonly type: string | null; readonly body: string };

const answers = JSON.parse(process.env["BENCH_ANSWERS"] ?? "{}") as Record<string, BareAnswer>;
const key = createSecretKey(randomBytes(32));
const place = associatedData("coffer value v1", [
  "project",
  "01981c62-d3e0-7f45-9b07-c2d4e6f8091a",
  "01981c62-d3e0-7f45-9b07-c2d4e6f8091b",
  1,
  "s3",
]);
const plaintext = Buffer.from(
  JSON.stringify({ access_key_id: "AKIDEXAMPLE", secret_access_key: "not-a-real-one" }),
);
const sealed = Array.from({ length: 20 }, () => sealBytes(key, place, plaintext));

const app = Fastify();
app.addContentTypeParser("application/x-www-form-urlencoded", { parseAs: "string" }, (_request, body, done) =>
  done(null, body),
);
for (const [name, { status, type, body }] of Object.entries(answers))
  for (const [url, before] of [
    [`/${name}`, () => undefined],
    [`/open/${name}`, () => sealed.map((each) => openBytes(key, place, each).toString("utf8"))],
  ] as const)
    app.route({
      method: ["GET", "PUT", "POST"],
      url,
      handler: (_request, reply) => {
        before();
        reply.code(status);
        if (type !== null) reply.type(type);
        return reply.send(body === "" ? undefined : body);
      },
    });
const address = await app.listen({ host: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ address }));
process.once("SIGTERM", () => void app.close().then(() => process.exit(0)));
