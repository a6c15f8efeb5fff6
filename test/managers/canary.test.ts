// A value on its way to and from a cloud's manager, with every debug output on that the broker, its SDKs and Node have:
// it is in no line of it.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDatabase, type TestDatabase } from "../harness/postgres.ts";
import { made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

const VALUES = ["canary-written-5f1d", "canary-rotated-8c2e", "canary-of-others-77aa"] as const;
/** As they are, and as payloads travel. */
const FORMS = VALUES.flatMap((value) => [
  value,
  Buffer.from(value).toString("base64").replace(/=+$/, "").slice(0, -1),
  Buffer.from(value).toString("hex"),
]);

describe.each(["aws", "gcp"] as const)("with %s", (name) => {
  let cloud: Cloud;
  let broker: BrokerProcess;
  let database: TestDatabase;
  let home: Awaited<ReturnType<typeof newHome>>;

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    database = await createDatabase();
    home = await newHome();
    broker = await spawnBroker(home.path, {
      ...cloud.environment,
      DATABASE_URL: database.url,
      COFFER_LOG_LEVEL: "trace",
      GOOGLE_SDK_NODE_LOGGING: "all",
      GRPC_TRACE: "all",
      GRPC_VERBOSITY: "DEBUG",
      NODE_DEBUG: "http,http2,https,net,tls,fetch",
      DEBUG: "*",
    });
  });
  afterAll(async () => {
    await broker?.killAll();
    await home?.remove();
    await database?.drop();
    await cloud?.close();
  });

  test("no output of the broker, its SDKs or Node holds a value, whatever fails", async () => {
    const admin = await broker.admin();
    const organization = await made(admin.post("/organizations", { body: { name: "acme" } }));
    const owner = { type: "organization", id: organization.id };
    const at = settingsUrl(owner, "secret/Custom/a");
    for (const value of VALUES.slice(0, 2)) await made(admin.put(at, { body: { value } }));
    expect((await admin.get(settingsUrl(owner, "secret/Custom/a", {}, "/settings/value"))).body.value).toBe(
      VALUES[1],
    );
    // A failing answer that carries the value all the same, as a proxy or a bug might.
    for (const kind of ["error", "status", "cut_off", "html"] as const) {
      cloud.fake.fault({
        kind,
        times: 3,
        status: 500,
        errorName: name === "aws" ? "InternalServiceError" : "INTERNAL",
        ...(name === "aws" ? { message: VALUES[2] } : {}),
        body: { SecretString: VALUES[2] },
      });
      await admin.get(settingsUrl(owner, "secret/Custom/a", { decrypt: "true" }));
      await admin.put(at, { body: { value: `${VALUES[0]} ${kind}` } });
      cloud.fake.clearFaults();
    }
    await broker.stop();
    const output = broker.output();
    expect(output.length).toBeGreaterThan(2_000);
    expect(FORMS.filter((form) => output.includes(form))).toEqual([]);
  });
});
