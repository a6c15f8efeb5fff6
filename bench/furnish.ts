// The data set: organizations with projects, a hundred settings each, sealed and signed as a broker does it, written
// in bulk. A worker for each organization, whose API and access token read its projects.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { checkValue } from "../src/domain/plaintext.ts";
import type { OwnerKey } from "../src/domain/ports.ts";
import type { Permit } from "../src/domain/sealing-ports.ts";
import type { SettingRecord, VersionRecord } from "../src/domain/setting.ts";
import { newId } from "../src/ids.ts";
import { createMasterKeys, parseMasterKey } from "../src/sealing/master-key.ts";
import { createMasterKeyRing } from "../src/sealing/master-key-ring.ts";
import { openVault } from "../src/sealing/open-vault.ts";
import { createStore } from "../src/store/store.ts";
import type { Started } from "./processes.ts";

export const BATCH_OF = 20;
const SETTINGS_EACH = 100;
const ORGANIZATIONS = 10;

export type Tenant = {
  readonly workerId: string;
  readonly tokens: { readonly api: string; readonly access: string };
  /** Of one with no role anywhere. */
  readonly strangers: { readonly api: string; readonly access: string };
  readonly projects: readonly string[];
};
export type Furnished = { readonly tenants: readonly Tenant[] };

/** A project's single settings come first, and then its twenty, under a prefix. */
export const BATCH_PREFIX = "connect/S3/batch";
export const SINGLES = SETTINGS_EACH - BATCH_OF;
/** The path of a project's n-th setting. */
export const pathOf = (index: number): string =>
  index < SINGLES ? `secret/Custom/app/key-${index}` : `${BATCH_PREFIX}/bucket-${index - SINGLES}`;

export async function furnish(
  broker: Started,
  home: string,
  databaseUrl: string,
  masterKey: string,
  owners: number,
): Promise<Furnished> {
  const admin = (await readFile(join(home, "admin.token"), "utf8")).trim();
  const post = async (path: string, body: unknown, token = admin): Promise<{ id: string; token: string }> => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const response = await fetch(broker.url + path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`POST ${path} answered ${response.status}`);
    return (await response.json()) as { id: string; token: string };
  };
  const clock = { now: () => new Date() };
  const opened = createStore({ databaseUrl, clock, onBackgroundError: (error) => console.error(error) });
  const vault = openVault({
    masterKeys: createMasterKeyRing(createMasterKeys(parseMasterKey(masterKey))),
    managers: new Map(),
    keyStore: opened.keys,
    clock,
    newId,
    versionNow: async ({ version }) => version,
    onAlert: () => undefined,
    allow: new Map() as never,
    cacheSeconds: 0,
    defaults: { storage: "envelope", manager: "local" },
    enabled: ["local"],
  });
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const tenants: Tenant[] = [];
  try {
    for (let each = 0; each < ORGANIZATIONS; each++) {
      const { id: organization } = await post("/organizations", { name: `organization ${each}` });
      const account = async (name: string) => {
        const { id } = await post(`/organizations/${organization}/service-accounts`, { name });
        const { token: api } = await post("/tokens", { name, principal_id: id });
        return { id, api, access: await accessToken(broker, id, api) };
      };
      const worker = await account("worker");
      const stranger = await account("stranger");
      const projects = Array.from({ length: owners / ORGANIZATIONS }, () => newId());
      await database.query(
        "INSERT INTO projects (id, organization_id, name, created_at) SELECT id, $1, id::text, now() FROM unnest($2::uuid[]) id",
        [organization, projects],
      );
      await database.query(
        `INSERT INTO memberships (tenant_id, owner_type, owner_id, principal_id, role, created_at)
        SELECT $1, 'project', id, $2, 'write', now() FROM unnest($3::uuid[]) id`,
        [organization, worker.id, projects],
      );
      for (const project of projects) {
        const key: OwnerKey = { tenant_id: organization, owner_type: "project", owner_id: project };
        const sealer = await vault.sealer({} as Permit, key, "local");
        const rows = Array.from({ length: SETTINGS_EACH }, (_, index) =>
          settingAt(key, index, worker.id, vault, sealer),
        );
        await insert(
          database,
          "settings",
          rows.map(({ setting }) => setting),
        );
        await insert(
          database,
          "setting_versions",
          rows.map(({ version }) => version),
        );
        const ledger = rows.map(({ setting: { tenant_id, owner_type, owner_id, path } }) => ({
          tenant_id,
          owner_type,
          owner_id,
          path,
          last_version: 1,
        }));
        await insert(database, "path_ledger", ledger);
      }
      const { api, access } = worker;
      const strangers = { api: stranger.api, access: stranger.access };
      tenants.push({ workerId: worker.id, tokens: { api, access }, strangers, projects });
    }
    await database.query("VACUUM ANALYZE");
    return { tenants };
  } finally {
    await database.end();
    await opened.close();
  }
}

/** Good for a quarter of an hour; had anew for a longer run. */
export async function accessToken(
  broker: Started,
  client_id: string,
  client_secret: string,
): Promise<string> {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id, client_secret });
  const response = await fetch(`${broker.url}/auth/token`, { method: "POST", body });
  return ((await response.json()) as { access_token: string }).access_token;
}

function settingAt(
  key: OwnerKey,
  index: number,
  by: string,
  vault: ReturnType<typeof openVault>,
  sealer: Awaited<ReturnType<ReturnType<typeof openVault>["sealer"]>>,
): { readonly setting: SettingRecord; readonly version: VersionRecord } {
  const type = index < SINGLES ? ("custom" as const) : ("s3" as const);
  const path = pathOf(index);
  const value =
    type === "custom"
      ? `value of ${path}, not a real one`
      : {
          access_key_id: "AKIDEXAMPLE",
          secret_access_key: "wJalrXUtnFEMI-not-a-real-one",
          region: "eu-central-1",
          bucket: path,
        };
  const at = new Date();
  const id = newId();
  const setting = vault.signSetting({
    ...key,
    id,
    path,
    type,
    description: `Setting ${index}`,
    labels: { team: "vision" },
    revision: 1,
    current_version: 1,
    current_since: at,
    expires_at: null,
    rotate_after_days: 90,
    created_at: at,
    created_by: by,
    updated_at: at,
    updated_by: by,
    last_accessed_at: null,
    deleted_at: null,
    purge_at: null,
  });
  const { owner_type, owner_id } = key;
  const sealed = sealer.seal(
    { owner_type, owner_id, setting_id: id, version: 1, type },
    checkValue(type, value),
  );
  const version = vault.signVersion(setting, {
    tenant_id: key.tenant_id,
    setting_id: id,
    version: 1,
    state: "enabled",
    storage: "envelope",
    manager: "local",
    ...sealed,
    location: null,
    created_at: at,
    created_by: by,
    last_accessed_at: null,
  });
  return { setting, version };
}

async function insert(database: pg.Client, table: string, rows: readonly object[]): Promise<void> {
  const texts = rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).map(([name, value]) => [
        name,
        value instanceof Uint8Array ? `\\x${Buffer.from(value).toString("hex")}` : value,
      ]),
    ),
  );
  const columns = Object.keys(texts[0] ?? {}).join(", ");
  await database.query(
    `INSERT INTO ${table} (${columns}) SELECT ${columns} FROM json_populate_recordset(NULL::${table}, $1)`,
    [JSON.stringify(texts)],
  );
}
