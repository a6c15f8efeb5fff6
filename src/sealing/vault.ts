// The vault: how values rest, and the one place where sealed bytes become a Plaintext. Nothing is opened before the
// row's MACs are found true, and a value opens only at the place that it was sealed for. What fails says which code
// and nothing of content; `onAlert` is told, with ids alone, of all that no broker would have left behind.
import type { KeyObject } from "node:crypto";
import type { Owner } from "../domain/address.ts";
import { BrokerError } from "../domain/errors.ts";
import { Plaintext } from "../domain/plaintext.ts";
import type { Opened, SealedPlace, Sealer, Vault } from "../domain/sealing-ports.ts";
import { KeptRow } from "../domain/kept-row.ts";
import type { ManagerName, Placement, SettingRow } from "../domain/setting.ts";
import { type CloudDeps, type Remote, createClouds } from "./clouds.ts";
import { type Associated, associatedData, openText, sealBytes } from "./envelope.ts";
import type { DataKey, KeyOutcome, Keyring } from "./keyring.ts";
import type { HeldKey } from "./key-cache.ts";
import { failureOf } from "./manager-failures.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";
import { createOpenedPages } from "./opened-pages.ts";
import type { RowMac } from "./row-mac.ts";
import { type Attempt as AttemptOf, type VersionNow, openedInTheEnd } from "./second-look.ts";

/** Something that a person should look at: what is stored is damaged, or somebody else has written to it. */
export type VaultAlert = RowAlert | SecretAlert;
type SecretAlert = {
  readonly kind: "managed_secret_altered";
  readonly tenant_id: string;
  readonly secret_id: string;
};
type RowAlert = Owner & {
  readonly kind:
    | "row_altered"
    | "data_key_missing"
    | "data_key_unopenable"
    | "value_unopenable"
    | "manager_drift";
  readonly tenant_id: string;
  readonly setting_id: string;
  readonly version: number;
  readonly data_key_id: string | null;
};

type VaultDeps = {
  readonly masterKeys: MasterKeyRing;
  readonly keyring: Keyring;
  readonly rowMac: RowMac;
  readonly clouds: CloudDeps;
  readonly defaults: Placement;
  /** The managers that new values may go to. */
  readonly enabled: readonly ManagerName[];
  readonly versionNow: VersionNow;
  /** Must not throw; it is called once for each row concerned. */
  readonly onAlert: (alert: VaultAlert) => void;
};

type Attempt = AttemptOf<RowAlert["kind"]>;

/** What a row's value is sealed in, once the row is known to be a broker's. */
type Envelope = { readonly data_key_id: string; readonly sealed: Uint8Array };

/** What a value is bound to: nobody can have it opened at another place. */
function associatedWith({ owner_type, owner_id, setting_id, version, type }: SealedPlace): Associated {
  return associatedData("coffer value v1", [owner_type, owner_id, setting_id, version, type]);
}

function associatedOf({ setting, version }: SettingRow): Associated {
  const { owner_type, owner_id, id: setting_id, type } = setting;
  return associatedWith({ owner_type, owner_id, setting_id, version: version.version, type });
}

export function createVault(deps: VaultDeps): Vault {
  const { masterKeys, keyring, rowMac, defaults, enabled, versionNow, onAlert } = deps;
  const { clouds, open: openRemote, has, isAllowed } = createClouds(deps.clouds);
  const pages = createOpenedPages(keyring);

  function alert(kind: RowAlert["kind"], { setting, version }: SettingRow): void {
    const { tenant_id, owner_type, owner_id, id: setting_id } = setting;
    const { version: number, data_key_id } = version;
    onAlert({ kind, tenant_id, owner_type, owner_id, setting_id, version: number, data_key_id });
  }

  function fail(kind: RowAlert["kind"], row: SettingRow, detail: string, cause?: unknown): Opened {
    alert(kind, row);
    return { kind: "failed", error: new BrokerError("manager_failed", detail, {}, cause) };
  }

  function isGenuine(row: SettingRow): boolean {
    const genuine = rowMac.isGenuine(row);
    if (!genuine) alert("row_altered", row);
    return genuine;
  }

  /** What to open, or why nothing is to be. */
  function contentOf(row: SettingRow): Envelope | Remote | Opened {
    if (!isGenuine(row)) {
      const error = new BrokerError("manager_failed", "The stored record was altered outside the broker.");
      return { kind: "failed", error };
    }
    const { state, storage, manager, data_key_id, sealed, location } = row.version;
    if (state !== "enabled")
      return { kind: "failed", error: new BrokerError("destroyed", "This version's value is destroyed.") };
    if (storage !== "envelope" && location !== null) return { row, manager, location };
    if (data_key_id === null || sealed === null)
      return fail("value_unopenable", row, "The stored record holds no value.");
    return { data_key_id, sealed };
  }

  function decrypt(row: SettingRow, sealed: Uint8Array, key: KeyObject): Opened {
    const { type } = row.setting;
    try {
      const text = openText(key, KeptRow.boundTo(row, associatedOf), sealed);
      return { kind: "opened", plaintext: new Plaintext(type, text) };
    } catch (error) {
      return fail("value_unopenable", row, "The stored value cannot be opened.", error);
    }
  }

  function openWith(row: SettingRow, sealed: Uint8Array, outcome: KeyOutcome): Attempt {
    if (outcome.kind === "key") return decrypt(row, sealed, outcome.key);
    if (outcome.kind === "missing") {
      const error = new BrokerError("manager_failed", "The key of the stored value is gone.");
      return { kind: "failed", error, suspected: "data_key_missing" };
    }
    // A store or manager that is away is no sign of damage.
    const failed = { kind: "failed", error: outcome.error } as const;
    return outcome.error.code === "unavailable" ? failed : { ...failed, suspected: "data_key_unopenable" };
  }

  /** The data keys of all envelopes, by tenant and id. */
  async function keysFor(rows: readonly SettingRow[], contents: readonly (Envelope | Remote | Opened)[]) {
    const wanted = new Map<string, string[]>();
    for (const [index, content] of contents.entries()) {
      const tenantId = rows[index]?.setting.tenant_id;
      if (tenantId === undefined || !("data_key_id" in content)) continue;
      const ids = wanted.get(tenantId);
      if (ids === undefined) wanted.set(tenantId, [content.data_key_id]);
      else ids.push(content.data_key_id);
    }
    return new Map(
      await Promise.all(
        [...wanted].map(
          async ([tenantId, ids]) => [tenantId, await keyring.dataKeys(tenantId, ids)] as const,
        ),
      ),
    );
  }

  /** What workers read all day: envelopes alone, with every key in memory. Null where anything has to be fetched. */
  function openCached(
    rows: readonly SettingRow[],
    contents: readonly (Envelope | Remote | Opened)[],
  ): readonly Opened[] | null {
    const cached: { row: SettingRow; sealed: Uint8Array; key: KeyObject }[] = [];
    // An owner's values are mostly under one key. Each tenant is asked about its own.
    let held: HeldKey | null = null;
    let keys = 0;
    let [lastTenant, lastId] = ["", ""];
    for (const [index, row] of rows.entries()) {
      const content = contents[index];
      if (content === undefined || !("data_key_id" in content)) return null;
      const { data_key_id: id, sealed } = content;
      const { tenant_id } = row.setting;
      if (id !== lastId || tenant_id !== lastTenant) {
        held = keyring.cached(tenant_id, id);
        keys += 1;
      }
      lastId = id;
      lastTenant = tenant_id;
      if (held === null) return null;
      cached.push({ row, sealed, key: held.key });
    }
    const opened = cached.map(({ row, sealed, key }) => decrypt(row, sealed, key));
    if (held !== null && keys === 1) pages.keep(rows, lastId, held, opened);
    return opened;
  }

  /** A manager that does not have what a broker's row points at is drift: a person should look. */
  function told(row: SettingRow, result: Opened | undefined): Attempt {
    if (result === undefined) return fail("value_unopenable", row, "The manager did not answer.");
    const isDrift = result.kind === "failed" && row.version.storage === "manager" && isGone(result.error);
    if (isDrift && result.error.code === "manager_failed") return { ...result, suspected: "manager_drift" };
    return result;
  }

  async function openFetching(
    rows: readonly SettingRow[],
    contents: readonly (Envelope | Remote | Opened)[],
  ): Promise<readonly Attempt[]> {
    const remotes = contents.filter((each) => "location" in each);
    const [keys, read] = await Promise.all([keysFor(rows, contents), openRemote(remotes)]);
    const remoteResults = new Map(remotes.map((remote, index) => [remote, read[index]]));
    return contents.map((content, index) => {
      const row = rows[index];
      if (row === undefined) throw new Error("a content is a row's");
      if ("kind" in content) return content;
      if ("location" in content) return told(row, remoteResults.get(content));
      const outcome = keys.get(row.setting.tenant_id)?.get(content.data_key_id);
      return openWith(row, content.sealed, outcome ?? { kind: "missing" });
    });
  }

  async function openOnce(rows: readonly SettingRow[]): Promise<readonly Attempt[]> {
    const together = pages.open(rows);
    if (together !== null) return together;
    const contents = rows.map(contentOf);
    return openCached(rows, contents) ?? openFetching(rows, contents);
  }

  return {
    sealer: async (_permit, key, manager) => sealerUnder(await keyring.currentDataKey(key, manager)),

    sealerInMemory(_permit, key, manager) {
      const dataKey = keyring.lastDataKey(key, manager);
      return dataKey === null ? null : sealerUnder(dataKey);
    },

    async open(_permit, rows) {
      const attempts = await openOnce(rows);
      if (attempts.every(({ kind }) => kind === "opened")) return attempts;
      return openedInTheEnd(rows, attempts, { versionNow, open: openOnce, onSuspicion: alert });
    },

    openInMemory(_permit, row) {
      const content = contentOf(row);
      if ("kind" in content) return content;
      if ("location" in content) return null;
      const held = keyring.cached(row.setting.tenant_id, content.data_key_id);
      return held === null ? null : decrypt(row, content.sealed, held.key);
    },

    isGenuine,

    isAllowed,

    tagOf: (row, text) => rowMac.tagOf(row, text),

    marks: (row) => rowMac.marks(row),

    signUnder: (keyCheck) => masterKeys.follow(keyCheck),

    assertInForce: (keyCheck) => void masterKeys.named(keyCheck),

    nextKeyCheck: masterKeys.next?.keyCheck ?? null,

    hasMasterKey: (keyCheck) => masterKeys.has(keyCheck),

    resealKeks: () => keyring.resealKeks(),

    signSetting: (record) => ({ ...record, mac: rowMac.ofSetting(record) }),

    signVersion(setting, record) {
      if (record.setting_id !== setting.id) throw new Error("a version is signed with its own setting");
      return { ...record, mac: rowMac.ofVersion(setting, record) };
    },

    clouds,

    isUsable: (manager) => keyring.guards(manager) && (manager === "local" || has(manager)),

    signSecret: (secret) => rowMac.ofSecret(secret),

    isGenuineSecret(secret) {
      const genuine = rowMac.isGenuineSecret(secret);
      if (!genuine)
        onAlert({ kind: "managed_secret_altered", tenant_id: secret.tenant_id, secret_id: secret.id });
      return genuine;
    },

    isEnabled: (manager) =>
      enabled.includes(manager) && keyring.guards(manager) && (manager === "local" || has(manager)),

    defaults,

    forget: (ownerId) => keyring.forget(ownerId),
  };
}

function sealerUnder({ id: data_key_id, key }: DataKey): Sealer {
  return {
    data_key_id,
    seal(place, plaintext) {
      const bytes = plaintext.bytes();
      try {
        return { data_key_id, sealed: sealBytes(key, associatedWith(place), bytes) };
      } finally {
        bytes.fill(0);
      }
    },
  };
}

/** Whether a manager has nothing, or gives nothing out any more, where a row of ours points. */
function isGone(error: unknown): boolean {
  return ["absent", "scheduled_for_deletion", "disabled"].includes(failureOf(error) ?? "");
}
