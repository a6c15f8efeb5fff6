// What the sealing tests stand on: a key store in memory that keeps the constraints the database keeps, a clock that
// is set by hand, and a vault over both. Ids are real UUIDs, so that shapes are what they are in production.
import { randomBytes, randomUUID } from "node:crypto";
import { inspect } from "node:util";
import type { Owner, SettingType } from "../../src/domain/address.ts";
import { checkValue } from "../../src/domain/plaintext.ts";
import type { OwnerKey } from "../../src/domain/ports.ts";
import type {
  DataKeyRecord,
  KekRecord,
  KeyEpoch,
  KeyStore,
  Opened,
  Permit,
} from "../../src/domain/sealing-ports.ts";
import type { ManagerName, SettingRecord, SettingRow, VersionRecord } from "../../src/domain/setting.ts";
import type { KeyCacheBounds } from "../../src/sealing/key-cache.ts";
import type { KeyGuard } from "../../src/sealing/key-guard.ts";
import { createKeyring } from "../../src/sealing/keyring.ts";
import { createLocalGuard } from "../../src/sealing/local.ts";
import { createMasterKeys } from "../../src/sealing/master-key.ts";
import { createMasterKeyRing } from "../../src/sealing/master-key-ring.ts";
import { createRowMac } from "../../src/sealing/row-mac.ts";
import type { VersionNow } from "../../src/sealing/second-look.ts";
import { createValueCache } from "../../src/sealing/value-cache.ts";
import { type VaultAlert, createVault } from "../../src/sealing/vault.ts";

export type MemoryKeys = KeyStore & {
  readonly keks: Map<string, KekRecord>;
  readonly data: Map<string, DataKeyRecord>;
  /** How often each method was called. */
  readonly calls: Map<string, number>;
  /** What `epoch` answers. */
  epochNow: { -readonly [Field in keyof KeyEpoch]: KeyEpoch[Field] };
  /** Thrown by every method while it is set. */
  down: Error | null;
};

const latest = <Row extends { readonly generation: number }>(rows: readonly Row[]): Row | null =>
  rows.reduce<Row | null>(
    (best, row) => (best !== null && best.generation > row.generation ? best : row),
    null,
  );

const ofOwner = (key: OwnerKey) => (row: DataKeyRecord) =>
  row.tenant_id === key.tenant_id && row.owner_type === key.owner_type && row.owner_id === key.owner_id;

/** Each call takes a turn of the event loop, as a round trip does, so that races really race. */
export function memoryKeys(): MemoryKeys {
  const keks = new Map<string, KekRecord>();
  const data = new Map<string, DataKeyRecord>();
  const calls = new Map<string, number>();
  const epoch = { key_check: null, previous_key_check: null, keys_rotated_at: null };
  const turn = async (name: string): Promise<void> => {
    calls.set(name, (calls.get(name) ?? 0) + 1);
    await new Promise(setImmediate);
    if (store.down !== null) throw store.down;
  };
  const isNamed = (keyCheck: Uint8Array): boolean => {
    const { key_check } = store.epochNow;
    return key_check === null || Buffer.from(key_check).equals(keyCheck);
  };
  const store: MemoryKeys = {
    keks,
    data,
    calls,
    down: null,
    epochNow: epoch,
    async epoch() {
      await turn("epoch");
      return { ...store.epochNow };
    },
    async newestKek(tenantId, manager) {
      await turn("newestKek");
      return latest(
        [...keks.values()].filter((row) => row.tenant_id === tenantId && row.manager === manager),
      );
    },
    async kek(tenantId, id) {
      await turn("kek");
      const row = keks.get(id);
      return row?.tenant_id === tenantId ? row : null;
    },
    async insertKek(record, keyCheck) {
      await turn("insertKek");
      if (!isNamed(keyCheck)) return null;
      const there = [...keks.values()].find(
        ({ tenant_id, manager, generation }) =>
          tenant_id === record.tenant_id && manager === record.manager && generation === record.generation,
      );
      if (there === undefined) keks.set(record.id, record);
      return there ?? record;
    },
    async newestDataKey(key, manager) {
      await turn("newestDataKey");
      return latest([...data.values()].filter(ofOwner(key)).filter((row) => row.manager === manager));
    },
    async dataKeys(tenantId, ids) {
      await turn("dataKeys");
      return [...data.values()].filter((row) => row.tenant_id === tenantId && ids.includes(row.id));
    },
    async insertDataKey(record) {
      await turn("insertDataKey");
      const kek = keks.get(record.kek_id);
      const { keys_rotated_at: rotated } = store.epochNow;
      if (kek === undefined || (rotated !== null && kek.created_at < rotated)) return null;
      const there = [...data.values()]
        .filter(ofOwner(record))
        .find((row) => row.generation === record.generation && row.manager === record.manager);
      if (there === undefined) data.set(record.id, record);
      return there ?? record;
    },
    async holdKek() {
      await turn("holdKek");
      return true;
    },
    async confirmSecret({ id }, version_id, keyCheck, mac) {
      await turn("confirmSecret");
      if (keyCheck !== null && !isNamed(keyCheck)) return "superseded";
      const row = keks.get(id);
      if (row === undefined || row.secret === null) return "gone";
      keks.set(id, { ...row, secret: { ...row.secret, version_id, mac } });
      return "noted";
    },
    async localKeks(after) {
      await turn("localKeks");
      return after === null ? [...keks.values()].filter(({ manager }) => manager === "local") : [];
    },
    async resealKek(was, sealed, keyCheck) {
      await turn("resealKek");
      if (!isNamed(keyCheck)) return false;
      keks.set(was.id, { ...was, sealed });
      return true;
    },
    masterKeySecret: async () => null,
    signingKeys: async () => [],
    async keyCheck(fresh) {
      await turn("keyCheck");
      store.epochNow.key_check ??= fresh;
      return store.epochNow.key_check;
    },
  };
  return store;
}

/** The gate alone makes these; a test of what stands behind the gate has to. */
export const permit = {} as Permit;

export function testClock(start = "2026-01-01T00:00:00Z") {
  let now = new Date(start);
  return {
    now: () => now,
    pass: (seconds: number) => {
      now = new Date(now.getTime() + seconds * 1_000);
    },
  };
}

export type Replica = ReturnType<typeof replica>;

/** One broker process over a store; `master` is the same for the replicas of one instance. */
export function replica(
  keyStore: MemoryKeys = memoryKeys(),
  options: {
    master?: Buffer;
    next?: Buffer;
    bounds?: KeyCacheBounds;
    wrapGuard?: (guard: KeyGuard) => KeyGuard;
    versionNow?: VersionNow;
  } = {},
) {
  const master = options.master ?? randomBytes(32);
  const masterKeys = createMasterKeys(Buffer.from(master));
  const clock = testClock();
  const next = options.next === undefined ? null : createMasterKeys(Buffer.from(options.next));
  const ring = createMasterKeyRing(masterKeys, next);
  const local = createLocalGuard(ring);
  const guards = new Map<ManagerName, KeyGuard>([["local", options.wrapGuard?.(local) ?? local]]);
  const bounds = options.bounds === undefined ? {} : { bounds: options.bounds };
  const rowMac = createRowMac(ring);
  const keyring = createKeyring({
    keyStore,
    guards,
    rowMac,
    masterKeys: ring,
    clock,
    newId: randomUUID,
    ...bounds,
  });
  const alerts: VaultAlert[] = [];
  const vault = createVault({
    masterKeys: ring,
    keyring,
    rowMac,
    clouds: { managers: new Map(), allow: new Map(), cache: createValueCache(clock, 0), clock },
    defaults: { storage: "envelope", manager: "local" },
    enabled: ["local"],
    versionNow: options.versionNow ?? (async ({ version }) => version),
    onAlert: (alert) => alerts.push(alert),
  });
  return { master, masterKeys, ring, keyStore, clock, keyring, rowMac, vault, alerts };
}

export function ownerKey(
  owner_type: Owner["owner_type"] = "project",
  tenant_id: string = randomUUID(),
): OwnerKey {
  return { owner_type, owner_id: owner_type === "project" ? randomUUID() : tenant_id, tenant_id };
}

const AT = new Date("2026-01-01T00:00:00Z");

export function settingOf(key: OwnerKey, type: SettingType = "custom"): Omit<SettingRecord, "mac"> {
  const by = randomUUID();
  return {
    ...key,
    id: randomUUID(),
    path: `secret/Custom/${randomBytes(4).toString("hex")}`,
    type,
    description: null,
    labels: {},
    revision: 1,
    current_version: 1,
    current_since: AT,
    expires_at: null,
    rotate_after_days: null,
    created_at: AT,
    created_by: by,
    updated_at: AT,
    updated_by: by,
    last_accessed_at: null,
    deleted_at: null,
    purge_at: null,
  };
}

/** A row as a write leaves it: sealed, and signed twice. */
export async function written(
  { vault }: Pick<Replica, "vault">,
  key: OwnerKey,
  value: unknown,
  setting: Omit<SettingRecord, "mac"> = settingOf(key),
  version = 1,
): Promise<SettingRow> {
  const sealer = await vault.sealer(permit, key, "local");
  const { id: setting_id, type, owner_type, owner_id } = setting;
  const sealed = sealer.seal({ owner_type, owner_id, setting_id, version, type }, checkValue(type, value));
  const record: Omit<VersionRecord, "mac"> = {
    tenant_id: key.tenant_id,
    setting_id,
    version,
    state: "enabled",
    storage: "envelope",
    manager: "local",
    ...sealed,
    location: null,
    created_at: AT,
    created_by: setting.created_by,
    last_accessed_at: null,
  };
  const signed = vault.signSetting({ ...setting, current_version: version });
  return { setting: signed, version: vault.signVersion(signed, record) };
}

export async function openOne({ vault }: Pick<Replica, "vault">, row: SettingRow): Promise<Opened> {
  const [opened] = await vault.open(permit, [row]);
  if (opened === undefined) throw new Error("no result");
  return opened;
}

/** Re-signs a row as only a broker could: what then still does not open is up to the ciphertext alone. */
export function resigned({ vault }: Pick<Replica, "vault">, row: SettingRow): SettingRow {
  const setting = vault.signSetting(row.setting);
  return { setting, version: vault.signVersion(setting, row.version) };
}

/** In every way that something is printed. */
export function printed(value: unknown): string {
  return `${inspect(value, { depth: null, showHidden: true })}${JSON.stringify(value)}${String(value)}`;
}
