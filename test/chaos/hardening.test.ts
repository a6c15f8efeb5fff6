// A broker that is confined as docker-compose.yml has it: Node's permission model with its own database and its home
// alone, no core dump, no debugger by a signal; and the image's recipe holds what docs/operations.md says of it.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, readdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { furnish, made, settingsUrl } from "../harness/broker.ts";
import { type TestDatabase, createDatabase } from "../harness/postgres.ts";
import { coffer, newHome, spawnBroker } from "../harness/process.ts";

const root = join(import.meta.dirname, "../..");
let home: Awaited<ReturnType<typeof newHome>>;
let database: TestDatabase;
beforeAll(async () => {
  home = await newHome();
  database = await createDatabase();
});
afterAll(async () => {
  await database.drop();
  await home.remove();
});

type Compose = { readonly services: Readonly<Record<string, Readonly<Record<string, unknown>>>> };
const compose = async (): Promise<Compose> =>
  parse(await readFile(join(root, "docker-compose.yml"), "utf8"), { merge: true });

/** The flags of docker-compose.yml, with this machine's places for the container's. */
async function confinement(): Promise<string[]> {
  const { services } = await compose();
  const entrypoint = services["coffer-1"]?.["entrypoint"] as string[];
  expect([entrypoint[0], entrypoint.at(-1)]).toEqual(["node", "src/cli.ts"]);
  return entrypoint
    .slice(1, -1)
    .map((flag) => flag.replace("=/app", `=${root}`).replace("=/var/lib/coffer", `=${home.path}`));
}

test("confined by Node's permission model it starts, writes its token, serves, is no debugger's, and stops", async () => {
  const environment = { DATABASE_URL: database.url, COFFER_MASTER_KEY: randomBytes(32).toString("hex") };
  const broker = await spawnBroker(home.path, environment, await confinement());
  const admin = await broker.admin();
  const world = await furnish({ url: broker.url, admin, as: (token) => broker.as(token) });
  const { writer, project } = world;
  await made(writer.api.put(settingsUrl(project, "secret/Custom/a"), { body: { value: "kept" } }));
  const read = await writer.api.get(settingsUrl(project, "secret/Custom/a", {}, "/settings/value"));
  expect(read.body.value).toBe("kept");
  broker.child.kill("SIGUSR1");
  const debug = connect(9_229, "127.0.0.1");
  const [refused] = await once(debug, "error");
  expect(refused.code).toBe("ECONNREFUSED");
  expect((await admin.get("/readyz")).status).toBe(200);
  const { code, stderr } = await broker.stop();
  expect([code, stderr]).toEqual([0, ""]);
  expect(await readdir(home.path)).toEqual(["admin.token"]);
});

test("confined it reads no file but ours: a master key elsewhere is refused by Node itself", async () => {
  const other = await newHome();
  try {
    const flags = await confinement();
    const environment = {
      DATABASE_URL: database.url,
      COFFER_MASTER_KEY_FILE: join(other.path, "master.key"),
    };
    await expect(spawnBroker(home.path, environment, flags)).rejects.toThrow(
      /ERR_ACCESS_DENIED|Access to this API has been restricted|permission/i,
    );
  } finally {
    await other.remove();
  }
});

test("the image runs as nobody in particular, needs no shell, and its health check is no shell's either", async () => {
  const lines = (await readFile(join(root, "Dockerfile"), "utf8")).replaceAll("\\\n", " ").split("\n");
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM ")));
  expect(last.filter((line) => line.startsWith("USER "))).toEqual(["USER 10001:10001"]);
  for (const word of ["ENTRYPOINT ", "CMD "])
    expect(last.find((line) => line.startsWith(word))).toMatch(/^[A-Z]+ \[".*"\]$/);
  expect(last.find((line) => line.startsWith("HEALTHCHECK"))).toMatch(/CMD \["node", /);
});

test("the replicas of docker-compose.yml are read-only, without capabilities, new privileges or core dumps", async () => {
  const { services } = await compose();
  for (const name of ["coffer-1", "coffer-2", "coffer-aws"])
    expect(services[name]).toMatchObject({
      read_only: true,
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
      ulimits: { core: 0 },
    });
});

test("npm start has core dumps off, and keeps the debugger's signal off", async () => {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  expect(scripts.start).toMatch(/^ulimit -c 0; exec node scripts\/run\.mjs /);
  expect(await readFile(join(root, "scripts/run.mjs"), "utf8")).toContain('"--disable-sigusr1"');
  expect((await coffer(["keygen"])).code).toBe(0);
});
