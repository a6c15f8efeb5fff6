// Writing settings: put, patch, roll back. Each is one change through the gate:
// keys are fetched before the transaction, writers of one path queue at its lock, and what is decided (version
// number, precondition, whether the value is new) is decided under that lock.
import { type SettingPath, typeOfPath } from "./address.ts";
import type { Caller, Grant } from "./admission.ts";
import { badInput } from "./errors.ts";
import { Stale, nothing } from "./gate.ts";
import { type Plaintext, checkValue } from "./plaintext.ts";
import type { NewId, OwnerKey } from "./ports.ts";
import type { Permit, Vault } from "./sealing-ports.ts";
import { assertPreconditions } from "./preconditions.ts";
import {
  type Labels,
  MANAGERS,
  STORAGES,
  type Setting,
  type SettingRecord,
  type SettingRow,
} from "./setting.ts";
import { type AddressInput, type SettingChange, shown, touched } from "./setting-change.ts";
import { assertGenuine, atVersion, failureOf, subjectOf } from "./opening.ts";

const LABELS_MAX = 64;

/** Undefined keeps what was, null clears. */
export type Metadata = {
  readonly description?: string | null;
  readonly labels?: Readonly<Record<string, string | null>> | null;
  readonly expires_at?: Date | null;
  readonly rotate_after_days?: number | null;
};
export type PutInput = AddressInput & {
  readonly value: unknown;
  readonly metadata: Metadata;
  /** As asked for: whether there is such a thing here is judged after the preconditions. */
  readonly storage?: string;
  readonly manager?: string;
};
export type PutAnswer = { readonly created: boolean; readonly setting: Setting };

export function createSettingsWrite(change: SettingChange, vault: Vault, newId: NewId) {
  const { changeAt, saved, current, addVersion } = change;

  /** Whether the value is the current one already; only for a caller who may see that. */
  function isCurrentValue(permit: Permit, grant: Grant, live: SettingRow, plaintext: Plaintext): boolean {
    if (live.version.state !== "enabled" || grant.decide("decrypt", live.setting.path).verdict === "deny")
      return false;
    const opened = vault.openInMemory(permit, live);
    if (opened === null) throw new Stale();
    return opened.kind === "opened" && opened.plaintext.equals(plaintext);
  }

  /** Where the next version goes: where the setting is, unless the write says otherwise. */
  function placementOf(input: PutInput, grant: Grant, path: SettingPath, live: SettingRow | null) {
    const usual = live?.version ?? vault.defaults;
    const storage = STORAGES.find((each) => each === (input.storage ?? usual.storage));
    const manager = MANAGERS.find((each) => each === (input.manager ?? usual.manager));
    if (storage === undefined || manager === undefined || !vault.isEnabled(storage, manager)) {
      const pointer = input.storage === undefined ? "/manager" : "/storage";
      throw badInput("invalid_value", "body", pointer, "This storage and manager are not enabled here.");
    }
    const moved = storage !== usual.storage || manager !== usual.manager;
    if (moved) grant.require("manage", path);
    return { placement: { storage, manager }, moved };
  }

  return {
    put(caller: Caller, input: PutInput): Promise<PutAnswer> {
      return changeAt(
        caller,
        "write",
        input,
        async (key, path, _grant, reader, permit) => {
          const found = await reader.setting(key, path);
          // Loads the keys that comparing needs, so that the transaction makes no network call.
          if (found?.version.state === "enabled") await vault.open(permit, [found]);
          return { permit, sealer: await vault.sealer(permit, key) };
        },
        async (writing, { permit, sealer }) => {
          const { tx, grant, key, path } = writing;
          const found = await tx.setting(key, path);
          const live = found === null || found.setting.deleted_at !== null ? null : found;
          assertPreconditions(input, live?.setting ?? null);
          if (found !== null) assertGenuine(vault, found);
          const plaintext = checkValue(typeOfPath(path), input.value);
          const { placement, moved } = placementOf(input, grant, path, live);
          const metadata = withMetadata(live?.setting ?? BLANK, input.metadata, "replace");
          if (metadata.expires_at !== null && metadata.expires_at.getTime() <= grant.at.getTime())
            throw badInput("invalid_value", "body", "/expires_at", "expires_at would be in the past.");
          const stamp = { updated_at: grant.at, updated_by: grant.principal.id };
          if (live !== null && !moved && isCurrentValue(permit, grant, live, plaintext)) {
            const row = isChanged(live.setting, metadata)
              ? await saved(tx, live, {
                  ...live.setting,
                  ...metadata,
                  ...stamp,
                  revision: live.setting.revision + 1,
                })
              : live;
            return { result: { created: false, setting: shown(row) }, subjects: [subjectOf(row)] };
          }
          const row = await addVersion(
            writing,
            sealer,
            plaintext,
            {
              ...(found?.setting ?? fresh(key, path, newId(), grant)),
              ...metadata,
              ...stamp,
              revision: (found?.setting.revision ?? 0) + 1,
              deleted_at: null,
              purge_at: null,
            },
            placement,
            found === null,
          );
          return { result: { created: live === null, setting: shown(row) }, subjects: [subjectOf(row)] };
        },
      );
    },

    patch(caller: Caller, input: AddressInput & { readonly metadata: Metadata }): Promise<Setting> {
      return changeAt(caller, "write", input, nothing, async (writing) => {
        const live = await current(writing, input);
        const { grant, tx } = writing;
        const metadata = withMetadata(live.setting, input.metadata, "merge");
        const given = input.metadata.expires_at;
        if (given !== undefined && given !== null && given.getTime() <= grant.at.getTime())
          throw badInput("invalid_value", "body", "/expires_at", "expires_at is in the past.");
        const row = isChanged(live.setting, metadata)
          ? await saved(tx, live, touched(live.setting, grant, metadata))
          : live;
        return { result: shown(row), subjects: [subjectOf(row)] };
      });
    },

    /** Makes a new version with an old one's value, in the storage that the setting is in now. */
    rollback(caller: Caller, input: AddressInput & { readonly version: number }): Promise<Setting> {
      return changeAt(
        caller,
        "write",
        input,
        async (key, path, _grant, reader, permit) => {
          const found = await reader.setting(key, path);
          const old = found === null ? null : await reader.version(found.setting, input.version);
          // Loads the keys that opening needs. What is wrong is told under the lock, after the preconditions.
          if (found !== null && old?.state === "enabled")
            await vault.open(permit, [{ setting: found.setting, version: old }]);
          return { permit, sealer: await vault.sealer(permit, key) };
        },
        async (writing, { permit, sealer }) => {
          const live = await current(writing, input);
          const { tx, grant, key } = writing;
          const old = await atVersion(tx, vault, key, live, input.version);
          const opened = vault.openInMemory(permit, old);
          if (opened === null) throw new Stale();
          if (opened.kind === "failed") throw failureOf([{ row: old, error: opened.error }]);
          const { storage, manager } = live.version;
          const row = await addVersion(
            writing,
            sealer,
            opened.plaintext,
            touched(live.setting, grant, {}),
            { storage, manager },
            false,
          );
          const details = { change: "rolled_back", from_version: String(input.version) };
          return { result: shown(row), subjects: [subjectOf(row)], details };
        },
      );
    },
  };
}

type MetadataFields = Pick<SettingRecord, "description" | "labels" | "expires_at" | "rotate_after_days">;
const BLANK: MetadataFields = { description: null, labels: {}, expires_at: null, rotate_after_days: null };

function fresh(key: OwnerKey, path: SettingPath, id: string, grant: Grant) {
  const { tenant_id, owner_type, owner_id } = key;
  const created = { created_at: grant.at, created_by: grant.principal.id, last_accessed_at: null };
  return { tenant_id, id, owner_type, owner_id, path, type: typeOfPath(path), ...created };
}

/** `replace`: given labels are all there are (PUT). `merge`: they are laid over, null removes one (RFC 7396). */
function withMetadata(was: MetadataFields, given: Metadata, labels: "replace" | "merge"): MetadataFields {
  return {
    description: given.description === undefined ? was.description : given.description,
    labels:
      given.labels === undefined
        ? was.labels
        : mergedLabels(labels === "merge" ? was.labels : {}, given.labels),
    expires_at: given.expires_at === undefined ? was.expires_at : given.expires_at,
    rotate_after_days:
      given.rotate_after_days === undefined ? was.rotate_after_days : given.rotate_after_days,
  };
}

function mergedLabels(was: Labels, given: Readonly<Record<string, string | null>> | null): Labels {
  const merged = new Map<string, string>(given === null ? [] : Object.entries(was));
  for (const [name, label] of Object.entries(given ?? {})) {
    if (label === null) merged.delete(name);
    else merged.set(name, label);
  }
  if (merged.size > LABELS_MAX)
    throw badInput("invalid_value", "body", "/labels", `A setting has at most ${LABELS_MAX} labels.`);
  return Object.fromEntries([...merged].toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

function isChanged(was: MetadataFields, is: MetadataFields): boolean {
  const plain = (fields: MetadataFields): string =>
    JSON.stringify([
      fields.description,
      Object.entries(fields.labels).toSorted(([one], [other]) => (one < other ? -1 : 1)),
      fields.expires_at,
      fields.rotate_after_days,
    ]);
  return plain(was) !== plain(is);
}
