// Copying and moving a setting to another owner or path. Both sides decide for themselves, and both have it on record:
// the source gives the value to whoever may decrypt it there, the target takes it from whoever may write there. A move
// removes the source last, and only if it is still what was copied: at no point is the value nowhere.
import { type Owner, parseSettingPath, typeOfPath } from "./address.ts";
import { type Caller, type Need, keyOf } from "./admission.ts";
import { badInput } from "./errors.ts";
import type { Gate, Read } from "./gate.ts";
import { openOne, subjectOf } from "./opening.ts";
import type { Vault } from "./sealing-ports.ts";
import { type Setting, etagOf } from "./setting.ts";
import type { AddressInput } from "./setting-change.ts";
import type { PutAnswer, PutInput } from "./settings-write.ts";
import { strictRow } from "./value-read.ts";

export type TransferInput = {
  readonly owner: Owner;
  readonly path: string;
  readonly to: { readonly owner: Owner; readonly path: string };
  readonly overwrite: boolean;
};
type UseCases = {
  readonly put: (caller: Caller, input: PutInput) => Promise<PutAnswer>;
  readonly softDelete: (caller: Caller, input: AddressInput) => Promise<void>;
};

export function createTransfer(gate: Gate, vault: Vault, { put, softDelete }: UseCases) {
  /** The value and metadata at the source; with `leaving`, of somebody who may take it away from there. */
  async function taken(read: Read, caller: Caller, input: TransferInput, leaving: boolean) {
    const path = parseSettingPath(input.path);
    const target = parseSettingPath(input.to.path, ["body", "/to/path"]);
    if (typeOfPath(path) !== typeOfPath(target))
      throw badInput("invalid_value", "body", "/to/path", "The target's path is of another type.");
    const { owner_type, owner_id } = input.to.owner;
    if (path === target && owner_type === input.owner.owner_type && owner_id === input.owner.owner_id)
      throw badInput("invalid_value", "body", "/to", "The target is the source.");
    const need: Need = {
      ask: { action: "decrypt", path, breadth: "whole" },
      place: { kind: "owner", owner: input.owner },
    };
    return read(
      caller,
      need,
      async (grant, reader) => {
        if (leaving) grant.require("write", path);
        const row = await strictRow(reader, vault, keyOf(grant), path, null, grant.at);
        const details = { to: `${owner_type}/${owner_id}/${target}` };
        return { found: row, subjects: [subjectOf(row)], details };
      },
      async (row, permit) => {
        const plaintext = await openOne(vault, permit, row);
        const { description, labels, expires_at, rotate_after_days } = row.setting;
        const metadata = { description, labels, expires_at, rotate_after_days };
        return { value: plaintext.reveal(), metadata, etag: etagOf(row, "metadata") };
      },
    );
  }

  function given(caller: Caller, input: TransferInput, found: Awaited<ReturnType<typeof taken>>) {
    return put(caller, {
      ...input.to,
      if_match: [],
      if_none_match: input.overwrite ? [] : ["*"],
      content: { value: found.value },
      metadata: found.metadata,
    });
  }

  /** What cannot be put at the target was not disclosed, though the source had allowed it. */
  function copied(caller: Caller, input: TransferInput, leaving: boolean) {
    return gate.whole(caller, async (read) => {
      const found = await taken(read, caller, input, leaving);
      return { setting: (await given(caller, input, found)).setting, etag: found.etag };
    });
  }

  return {
    /** The current value and its metadata; other versions stay behind. 412 where the target exists. */
    async copySetting(caller: Caller, input: TransferInput): Promise<Setting> {
      return (await copied(caller, input, false)).setting;
    },

    /** As a copy, then a soft delete of the source. 412 with both in place when the source changed meanwhile. */
    async moveSetting(caller: Caller, input: TransferInput): Promise<Setting> {
      const { setting, etag } = await copied(caller, input, true);
      const { owner, path } = input;
      await softDelete(caller, { owner, path, if_match: [etag], if_none_match: [] });
      return setting;
    },
  };
}
