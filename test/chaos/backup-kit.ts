// What the tests of backup and restore share: an instance whose values are known, the commands on it and on databases that
// are empty, and what somebody finds or does who has a file or a database by hand.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { createGunzip } from "node:zlib";
import pg from "pg";
import { expect, onTestFinished } from "vitest";
import { openBackup } from "../../src/sealing/backup-file.ts";
import { createMasterKeys } from "../../src/sealing/master-key.ts";
import {
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { emptyDatabase } from "../harness/postgres.ts";
import { type BrokerProcess, coffer, newHome, spawnBroker } from "../harness/process.ts";
import { until } from "../harness/until.ts";

type Home = Awaited<ReturnType<typeof newHome>>;
type Instance = { readonly home: Home; readonly broker: TestBroker; readonly world: World };
type Running = () => Instance;

export const CANARY = `canary-${randomBytes(12).toString("hex")}`;

/** An instance with values in every state, a code and an access token, and a folder for its backups. */
export async function filledInstance() {
  const home = await newHome();
  const broker = await startBroker();
  const world = await furnish(broker);
  const { secret, put } = instanceOn(() => ({ home, broker, world }));

  for (const version of [1, 2, 3]) await put("kept", `${CANARY} ${version}`);
  await put("doomed", CANARY);
  await put("purged before", CANARY).catch(() => put("purged-before", CANARY));
  await made(world.keeper.api.delete(secret("purged-before", { purge: "true" })));
  await made(world.writer.api.put(settingsUrl(world.project, "connect/S3/a"), { body: { value: S3 } }));
  // More than one chunk of the file, and nothing that can be compressed.
  for (let index = 0; index < 40; index++) await put(`bulk/n${index}`, randomBytes(3_000).toString("base64"));
  const enrolment: string = (await made(broker.admin.post("/users", { body: { name: "waiting" } })))
    .enrolment_code;
  const asked = {
    grant_type: "client_credentials",
    client_id: world.writer.id,
    client_secret: world.writer.api.token,
  };
  const answer = await fetch(`${broker.url}/auth/token`, {
    method: "POST",
    body: new URLSearchParams(asked),
  });
  const access = ((await answer.json()) as { access_token: string }).access_token;
  await made(broker.as(access).get("/auth/me"));

  return { home, broker, world, enrolment, access };
}

/** What is done at the instance beside its backups. */
export function instanceOn(running: Running) {
  const secret = (name: string, rest = {}, path = "/settings") =>
    settingsUrl(running().world.project, `secret/Custom/${name}`, rest, path);
  const put = (name: string, value: string) =>
    made(running().world.writer.api.put(secret(name), { body: { value } }));

  /** Three writers that go on until they are told to end. */
  function busyWriters(): () => Promise<void> {
    const state = { writing: true };
    const writers = [0, 1, 2].map(async (writer) => {
      for (let round = 0; state.writing; round++) {
        await put(`busy/n${writer}`, `${CANARY} ${round}`);
        await pause(10);
      }
    });
    return async () => {
      state.writing = false;
      await Promise.all(writers);
    };
  }

  /** The broker seals by itself; this only looks until it has. */
  async function allSealed(): Promise<void> {
    await until("every event sealed", async () => {
      const [row] = await query(
        running().broker.databaseUrl,
        "SELECT (SELECT max(last_position) FROM audit_seals) = (SELECT count(*) FROM audit_events) AS sealed",
      );
      return row?.["sealed"] === true;
    });
  }

  return { secret, put, busyWriters, allSealed };
}

/** The commands on the instance, and with its master key on other databases. */
export function commandsOn(running: Running) {
  const at = (name: string): string => join(running().home.path, name);
  const environment = (url: string, more: Readonly<Record<string, string>> = {}) => ({
    COFFER_HOME: at("none"),
    DATABASE_URL: url,
    COFFER_MASTER_KEY: running().broker.masterKey,
    ...more,
  });

  async function backup(name: string, ...more: string[]): Promise<void> {
    const args = ["backup", "--output", at(name), ...more];
    expect(await coffer(args, environment(running().broker.databaseUrl))).toEqual({
      code: 0,
      stdout: "",
      stderr: "",
    });
  }

  const restore = (url: string, file: string, ...more: string[]) =>
    coffer(["restore", "--input", at(file), ...more], environment(url));

  /** A broker on what was restored. */
  async function serve(url: string): Promise<BrokerProcess> {
    const served = await spawnBroker(at(`served-${randomBytes(4).toString("hex")}`), environment(url, {}));
    onTestFinished(async () => {
      await served.stop();
    });
    return served;
  }

  const tokenFor = async (url: string, principal: string): Promise<string> =>
    (await coffer(["token", "--principal", principal], environment(url))).stdout.trim();

  /** Makes a key for backups, whose identity is in a file of this name. */
  async function newRecipient(name: string): Promise<string> {
    const { stdout } = await coffer(["backup", "keygen"]);
    const [recipient = "", identity = ""] = stdout.trim().split("\n");
    await writeFile(at(name), identity, { mode: 0o600 });
    return recipient;
  }

  return { at, environment, backup, restore, serve, tokenFor, newRecipient };
}

export async function database(): Promise<string> {
  const made = await emptyDatabase();
  onTestFinished(() => made.drop());
  return made.url;
}

export async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

/** What is in a backup, for who has its key. */
export async function plainOf(file: Buffer, masterKey: string): Promise<string> {
  const by = { master: createMasterKeys(Buffer.from(masterKey, "hex")).backup, identity: null };
  return textOf(Readable.from(openBackup(Readable.from([file]), by)).pipe(createGunzip()));
}

/** Sets the count of the fifth event on record, as only the database's owner can. */
export async function setCountByHand(url: string, count: number): Promise<void> {
  await query(
    url,
    `ALTER TABLE audit_events DISABLE TRIGGER USER; UPDATE audit_events SET count = ${count} WHERE position = 5;
     ALTER TABLE audit_events ENABLE TRIGGER USER`,
  );
}

/** The busy writers' versions that are there without the event that committed with them. */
export const tornVersions = (url: string) =>
  query(
    url,
    `SELECT v.version FROM setting_versions v JOIN settings s ON s.id = v.setting_id
     WHERE s.path LIKE 'secret/Custom/busy/%' AND NOT EXISTS (SELECT FROM audit_events e, jsonb_array_elements(e.settings) a
       WHERE a->>'id' = s.id::text AND (a->>'version')::int = v.version AND e.operation = 'putSetting')`,
  );

export const liveTokens = (url: string) =>
  query(url, "SELECT count(*)::int FROM tokens WHERE revoked_at IS NULL");
