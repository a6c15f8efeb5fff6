// Writing settings: put, patch, roll back. Each is one change through the gate. What takes a network call (keys, a
// manager, the current value to compare with) is got ready before the transaction; what is decided (version number,
// precondition, whether the value is new, where it goes) is decided under the path's lock, and once more under it
// before a manager is written to.
import { isDeepStrictEqual } from "node:util";
import { type SettingPath, typeOfPath } from "./address.ts";
import type { Caller, Grant } from "./admission.ts";
import { BrokerError, badInput, conflict } from "./errors.ts";
import type { ManagedSecrets } from "./managed-secrets.ts";
import { assertGenuine, atVersion, failureOf, subjectOf } from "./opening.ts";
import { type PlacementInput, assertPlacement, placementOf, usualPlacement } from "./placement.ts";
import { type Plaintext, checkValue } from "./plaintext.ts";
import type { NewId, OwnerKey } from "./ports.ts";
import { assertPreconditions } from "./preconditions.ts";
import type { Pointer, Vault } from "./sealing-ports.ts";
import { type AddressInput, type SettingChange, type Writing, shown, touched } from "./setting-change.ts";
import { assertLasts, BLANK, type Metadata, isChanged, withMetadata } from "./setting-metadata.ts";
import type { Setting, SettingRecord, SettingRow } from "./setting.ts";
import {
  type Known,
  type NewValue,
  contentOf,
  createVersionContents,
  neverWritten,
} from "./version-content.ts";
import { nothing } from "./steps.ts";

export type PutInput = AddressInput & {
  /** What the value is to be; or where somebody else keeps it. */
  readonly content: { readonly value: unknown } | { readonly external: Pointer };
  readonly metadata: Metadata;
  /** As asked for: whether there is such a thing here is judged after the preconditions. */
  readonly storage?: string;
  readonly manager?: string;
};
export type PutAnswer = { readonly created: boolean; readonly setting: Setting };

/** A write, decided: what the setting becomes, and what its new version holds; `value` null makes none. */
type Plan = {
  readonly live: SettingRow | null;
  readonly next: Omit<SettingRecord, "mac" | "current_version" | "current_since">;
  readonly insert: boolean;
  readonly value: NewValue | null;
};

export function createSettingsWrite(
  change: SettingChange,
  vault: Vault,
  managed: ManagedSecrets,
  newId: NewId,
) {
  const { changeAt, saved, current, addVersion } = change;
  const contents = createVersionContents(vault);

  /** Whether the value is the current one already; only for a caller who may see that. */
  function isCurrentValue(known: Known, grant: Grant, live: SettingRow, plaintext: Plaintext): boolean {
    if (!isComparable(grant, live)) return false;
    const opened = contents.valueOf(known, live);
    return !(opened instanceof BrokerError) && opened.equals(plaintext);
  }

  /** All that decides over a PUT, under the path's lock. */
  async function planPut(
    { tx, grant, key, path }: Writing,
    input: PutInput,
    known: Known,
    freshId: string,
  ): Promise<Plan> {
    const found = await tx.setting(key, path);
    const live = found === null || found.setting.deleted_at !== null ? null : found;
    assertPreconditions(input, live?.setting ?? null);
    if (found !== null) assertGenuine(vault, found);
    const { content } = input;
    const value = "value" in content ? checkValue(typeOfPath(path), content.value) : "pointer";
    const usual = await usualPlacement(tx, vault, key);
    const asked = askedPlacement(input);
    // One that comes back from a soft delete is where it was, like any other.
    const context = { grant, path, live: found, usual, vault };
    const going = placementOf(asked, found, usual);
    if (input.storage !== undefined && (value === "pointer") !== (input.storage === "external"))
      throw badInput(
        "invalid_value",
        "body",
        "/storage",
        "external goes with a pointer, and nothing else does.",
      );
    if (value !== "pointer" && going?.storage === "external") throw neverWritten();
    if ("external" in content && asked.manager !== content.external.manager)
      throw badInput("invalid_value", "body", "/manager", "That is not the manager of such a secret.");
    const { placement, moved } = assertPlacement(going, asked, context);
    const metadata = withMetadata(live?.setting ?? BLANK, input.metadata, "replace");
    assertLasts(metadata.expires_at, grant.at);
    const stamp = { updated_at: grant.at, updated_by: grant.principal.id };
    const next = {
      ...(found?.setting ?? fresh(key, path, freshId, grant)),
      ...metadata,
      ...stamp,
      revision: (found?.setting.revision ?? 0) + 1,
      deleted_at: null,
      purge_at: null,
    };
    const isSame =
      live !== null && !moved && value !== "pointer" && isCurrentValue(known, grant, live, value);
    return {
      live,
      next,
      insert: found === null,
      value: isSame ? null : { setting_id: next.id, placement, value },
    };
  }

  return {
    put(caller: Caller, input: PutInput): Promise<PutAnswer> {
      const freshId = newId();
      return managed.during((session) =>
        changeAt(
          caller,
          "write",
          input,
          async (at) => {
            const usual = await usualPlacement(at.reader, vault, at.key);
            const now = async () => {
              const found = await at.reader.setting(at.key, at.path);
              const live = found === null || found.setting.deleted_at !== null ? null : found;
              return { live, placement: placementOf(askedPlacement(input), found, usual) };
            };
            const first = await now();
            // Before the current value is read, lest it be another by the time of this writer's turn.
            const isQueued = first.placement?.storage === "manager" && (await session.enter(at));
            const { live, placement } = isQueued ? await now() : first;
            const isCompared = live !== null && "value" in input.content && isComparable(at.grant, live);
            const known = await contents.known(at, isCompared ? live : null);
            const pointer = "external" in input.content ? input.content.external : null;
            return contents.prepare(at, session, known, placement, pointer, async (writing) => {
              return (await planPut(writing, input, known, freshId)).value;
            });
          },
          async (writing, prepared) => {
            const { live, next, insert, value } = await planPut(writing, input, prepared.known, freshId);
            const content = value === null ? null : contentOf(prepared, value);
            if (
              live !== null &&
              (content === null ||
                isSamePointer(live, content.storage === "external" ? content.location : null))
            ) {
              const row = isChanged(live.setting, next)
                ? await saved(writing.tx, live, { ...live.setting, ...next })
                : live;
              const details = { change: row === live ? "none" : "changed" };
              return { result: { created: false, setting: shown(row) }, subjects: [subjectOf(row)], details };
            }
            if (content === null) throw new Error("a setting that is not there has no current value");
            const row = await addVersion(writing, content, next, insert);
            const details = { change: live === null ? "created" : "version_added" };
            const result = { created: live === null, setting: shown(row) };
            return { result, subjects: [subjectOf(row)], details };
          },
          (grant, permit) => contents.atOnce(grant, permit),
        ),
      );
    },

    patch(caller: Caller, input: AddressInput & { readonly metadata: Metadata }): Promise<Setting> {
      return changeAt(caller, "write", input, nothing, async (writing) => {
        const live = await current(writing, input);
        const { grant, tx } = writing;
        const metadata = withMetadata(live.setting, input.metadata, "merge");
        assertLasts(input.metadata.expires_at, grant.at);
        const row = isChanged(live.setting, metadata)
          ? await saved(tx, live, touched(live.setting, grant, metadata))
          : live;
        const details = { change: row === live ? "none" : "changed" };
        return { result: shown(row), subjects: [subjectOf(row)], details };
      });
    },

    /** Makes a new version with an old one's value, in the storage that the setting is in now. */
    rollback(caller: Caller, input: AddressInput & { readonly version: number }): Promise<Setting> {
      /** What the new version is to hold. Of an external setting only a pointer is restored, which needs `manage`. */
      async function planRollback(writing: Writing, known: Known) {
        const live = await current(writing, input);
        const { tx, key, grant, path } = writing;
        const old = await atVersion(tx, vault, key, live, input.version);
        const { storage, manager } = live.version;
        assertPlacement({ storage, manager }, {}, { grant, path, live, usual: live.version, vault });
        const next = touched(live.setting, grant, {});
        if (storage === "external") {
          if (old.version.storage !== "external")
            throw conflict("An external setting goes back to pointers only.");
          assertGenuine(vault, old);
          return { next, old, value: null };
        }
        const opened = contents.valueOf(known, old);
        if (opened instanceof BrokerError) throw failureOf([{ row: old, error: opened }]);
        return {
          next,
          old,
          value: { setting_id: live.setting.id, placement: { storage, manager }, value: opened },
        };
      }
      return managed.during((session) =>
        changeAt(
          caller,
          "write",
          input,
          async (at) => {
            const found = await at.reader.setting(at.key, at.path);
            if (found?.version.storage === "manager") await session.enter(at);
            const old = found === null ? null : await at.reader.version(found.setting, input.version);
            // What is wrong is told under the lock, after the preconditions.
            const isWanted =
              found !== null && found.version.storage !== "external" && old?.state === "enabled";
            const known = await contents.known(
              at,
              isWanted ? { setting: found.setting, version: old } : null,
            );
            const placement = isWanted ? found.version : null;
            return contents.prepare(at, session, known, placement, null, async (writing) => {
              return (await planRollback(writing, known)).value;
            });
          },
          async (writing, prepared) => {
            const { next, old, value } = await planRollback(writing, prepared.known);
            const row = await addVersion(
              writing,
              value === null ? pointerOf(old) : contentOf(prepared, value),
              next,
              false,
            );
            const details = { change: "rolled_back", from_version: String(input.version) };
            return { result: shown(row), subjects: [subjectOf(row)], details };
          },
        ),
      );
    },
  };
}

function askedPlacement({ content, storage, manager }: PutInput): PlacementInput {
  if ("external" in content) {
    const given = { ...(storage === undefined ? {} : { storage }), external: true };
    return { ...given, manager: manager ?? content.external.manager };
  }
  return { ...(storage === undefined ? {} : { storage }), ...(manager === undefined ? {} : { manager }) };
}

/** Whether the current value may be looked at, to see if it is the one given. */
function isComparable(grant: Grant, { setting, version }: SettingRow): boolean {
  const isHeld = version.state === "enabled" && version.storage !== "external";
  return isHeld && grant.decide("decrypt", setting.path).verdict === "allow";
}

function isSamePointer({ version }: SettingRow, location: SettingRow["version"]["location"]): boolean {
  if (
    version.storage !== "external" ||
    version.state !== "enabled" ||
    version.location === null ||
    location === null
  )
    return false;
  return isDeepStrictEqual({ ...version.location, bytes: 0 }, { ...location, bytes: 0 });
}

function pointerOf({ version: { storage, manager, location } }: SettingRow) {
  if (storage !== "external" || manager === "local" || location === null)
    throw new Error("an external version says where its value lies");
  return { storage, manager, location };
}

export function fresh(key: OwnerKey, path: SettingPath, id: string, grant: Grant) {
  const { tenant_id, owner_type, owner_id } = key;
  const created = { created_at: grant.at, created_by: grant.principal.id, last_accessed_at: null };
  return { tenant_id, id, owner_type, owner_id, path, type: typeOfPath(path), ...created };
}
