// The vault: how values rest, and the one place where sealed bytes become a Plaintext. Nothing is opened before the
// row's MACs are found true, and a value opens only at the place that it was sealed for. What fails says which code
// and nothing of content; `onAlert` is told, with ids alone, of all that no broker would have left behind.
import type { KeyObject } from "node:crypto";
import type { Owner } from "../domain/address.ts";
import { BrokerError } from "../domain/errors.ts";
import { Plaintext } from "../domain/plaintext.ts";
import type { Opened, Permit, SealedPlace, Vault } from "../domain/sealing-ports.ts";
import type { ManagerName, SettingRow, Storage } from "../domain/setting.ts";
import { openBytes, sealBytes } from "./envelope.ts";
import type { KeyOutcome, Keyring } from "./keyring.ts";
import type { RowMac } from "./row-mac.ts";

/** Something that a person should look at: the database is damaged, or somebody else has written to it. */
export type VaultAlert = Owner & {
  readonly kind: "row_altered" | "data_key_missing" | "data_key_unopenable" | "value_unopenable";
  readonly tenant_id: string;
  readonly setting_id: string;
  readonly version: number;
  readonly data_key_id: string | null;
};

type VaultDeps = {
  readonly keyring: Keyring;
  readonly rowMac: RowMac;
  readonly defaults: { readonly storage: Storage; readonly manager: ManagerName };
  /** Must not throw; it is called once for each row concerned. */
  readonly onAlert: (alert: VaultAlert) => void;
};

/** What a row's value is sealed in, once the row is known to be a broker's. */
type Envelope = { readonly data_key_id: string; readonly sealed: Uint8Array };

// Without `ignoreBOM` a value that starts with U+FEFF would lose it.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const associated = ({
  owner_type,
  owner_id,
  setting_id,
  version,
  type,
}: SealedPlace): readonly (string | number)[] => [owner_type, owner_id, setting_id, version, type];

export function createVault({ keyring, rowMac, defaults, onAlert }: VaultDeps): Vault {
  function alert(kind: VaultAlert["kind"], { setting, version }: SettingRow): void {
    const { tenant_id, owner_type, owner_id, id: setting_id } = setting;
    const { version: number, data_key_id } = version;
    onAlert({ kind, tenant_id, owner_type, owner_id, setting_id, version: number, data_key_id });
  }

  function fail(kind: VaultAlert["kind"], row: SettingRow, detail: string, cause?: unknown): Opened {
    alert(kind, row);
    return { kind: "failed", error: new BrokerError("manager_failed", detail, {}, cause) };
  }

  function isGenuine(row: SettingRow): boolean {
    const genuine = rowMac.isGenuine(row);
    if (!genuine) alert("row_altered", row);
    return genuine;
  }

  /** What to open, or why nothing is to be. */
  function envelopeOf(row: SettingRow): Envelope | Opened {
    if (!isGenuine(row)) {
      const error = new BrokerError("manager_failed", "The stored record was altered outside the broker.");
      return { kind: "failed", error };
    }
    const { state, data_key_id, sealed } = row.version;
    if (state !== "enabled")
      return { kind: "failed", error: new BrokerError("destroyed", "This version's value is destroyed.") };
    if (data_key_id === null || sealed === null)
      return fail("value_unopenable", row, "The stored record holds no value.");
    return { data_key_id, sealed };
  }

  function decrypt(row: SettingRow, sealed: Uint8Array, key: KeyObject): Opened {
    const { setting, version } = row;
    const { owner_type, owner_id, id: setting_id, type } = setting;
    const place = { owner_type, owner_id, setting_id, version: version.version, type };
    try {
      const bytes = openBytes(key, "coffer value v1", associated(place), sealed);
      try {
        return { kind: "opened", plaintext: new Plaintext(type, utf8.decode(bytes)) };
      } finally {
        bytes.fill(0);
      }
    } catch (error) {
      return fail("value_unopenable", row, "The stored value cannot be opened.", error);
    }
  }

  function openWith(row: SettingRow, sealed: Uint8Array, outcome: KeyOutcome): Opened {
    if (outcome.kind === "key") return decrypt(row, sealed, outcome.key);
    if (outcome.kind === "missing")
      return fail("data_key_missing", row, "The key of the stored value is gone.");
    // A store or manager that is away is no sign of damage.
    if (outcome.error.code !== "unavailable") alert("data_key_unopenable", row);
    return { kind: "failed", error: outcome.error };
  }

  return {
    async sealer(_permit: Permit, key) {
      const { id: data_key_id, key: dataKey } = await keyring.currentDataKey(key);
      return {
        seal(place, plaintext) {
          const bytes = plaintext.bytes();
          try {
            return { data_key_id, sealed: sealBytes(dataKey, "coffer value v1", associated(place), bytes) };
          } finally {
            bytes.fill(0);
          }
        },
      };
    },

    async open(_permit, rows) {
      const checked = rows.map((row) => ({ row, envelope: envelopeOf(row) }));
      const wanted = new Map<string, string[]>();
      for (const { row, envelope } of checked) {
        if ("kind" in envelope) continue;
        const ids = wanted.get(row.setting.tenant_id);
        if (ids === undefined) wanted.set(row.setting.tenant_id, [envelope.data_key_id]);
        else ids.push(envelope.data_key_id);
      }
      const loaded = new Map(
        await Promise.all(
          [...wanted].map(
            async ([tenantId, ids]) => [tenantId, await keyring.dataKeys(tenantId, ids)] as const,
          ),
        ),
      );
      return checked.map(({ row, envelope }) => {
        if ("kind" in envelope) return envelope;
        const outcome = loaded.get(row.setting.tenant_id)?.get(envelope.data_key_id);
        return openWith(row, envelope.sealed, outcome ?? { kind: "missing" });
      });
    },

    openInMemory(_permit, row) {
      const envelope = envelopeOf(row);
      if ("kind" in envelope) return envelope;
      const key = keyring.cached(row.setting.tenant_id, envelope.data_key_id);
      return key === null ? null : decrypt(row, envelope.sealed, key);
    },

    isGenuine,

    signSetting: (record) => ({ ...record, mac: rowMac.ofSetting(record) }),

    signVersion(setting, record) {
      if (record.setting_id !== setting.id) throw new Error("a version is signed with its own setting");
      return { ...record, mac: rowMac.ofVersion(setting, record) };
    },

    isEnabled: (storage, manager) => storage === "envelope" && keyring.guards(manager),

    defaults,

    forget: (ownerId) => keyring.forget(ownerId),
  };
}
