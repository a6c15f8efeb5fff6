// Where a new value goes: what the write says, else where the setting is, else what its owner, its organization and the
// instance say, in that order. Pure but for the reading of what owners say.
import type { Grant } from "./admission.ts";
import { badInput } from "./errors.ts";
import type { OwnerManagers } from "./manager-store-ports.ts";
import type { OwnerKey, Reader } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import { MANAGERS, type Placement, STORAGES, type SettingRow } from "./setting.ts";

/** Where an owner's new settings go, and who says so. */
export type UsualPlacement = Placement & { readonly inherited_from: "organization" | "instance" | null };

export async function usualPlacement(
  reader: Pick<Reader, "ownerManagers">,
  vault: Pick<Vault, "defaults">,
  key: OwnerKey,
): Promise<UsualPlacement> {
  return usualOf(await reader.ownerManagers(key), vault.defaults);
}

export function usualOf({ own, organization }: OwnerManagers, instance: Placement): UsualPlacement {
  if (own !== null) return { ...own, inherited_from: null };
  if (organization !== null) return { ...organization, inherited_from: "organization" };
  return { ...instance, inherited_from: "instance" };
}

/** What a write says of where its value is to go, as the client worded it. */
export type PlacementInput = {
  readonly storage?: string;
  readonly manager?: string;
  readonly external?: boolean;
};

/** Where the next version goes, right or wrong: null for what is no placement at all. */
export function placementOf(
  input: PlacementInput,
  live: SettingRow | null,
  usual: Placement,
): Placement | null {
  const stays = live?.version ?? usual;
  const storage = STORAGES.find(
    (each) => each === (input.external === true ? "external" : (input.storage ?? storageOf(input, stays))),
  );
  const manager = MANAGERS.find((each) => each === (input.manager ?? stays.manager));
  return storage === undefined || manager === undefined ? null : { storage, manager };
}

/** A manager alone was named: local keeps nothing but envelopes, and no value goes where others' secrets are. */
function storageOf({ manager }: PlacementInput, stays: Placement): string {
  if (
    manager === "local" ||
    (manager !== undefined && manager !== stays.manager && stays.storage === "external")
  )
    return "envelope";
  return stays.storage;
}

/**
 * That values may be written there, by this caller.
 * @throws BrokerError `invalid_value`; Denied, where a change of place needs `manage`
 */
export function assertPlacement(
  placement: Placement | null,
  input: PlacementInput,
  {
    grant,
    path,
    live,
    usual,
    vault,
  }: {
    readonly grant: Grant;
    readonly path: string;
    readonly live: SettingRow | null;
    readonly usual: Placement;
    readonly vault: Pick<Vault, "isEnabled" | "isUsable">;
  },
): { readonly placement: Placement; readonly moved: boolean } {
  const stays = live?.version ?? usual;
  const moved = placement?.storage !== stays.storage || placement.manager !== stays.manager;
  // What is there already stays there, also where nothing new may go any more.
  const isOpen = live !== null && !moved ? vault.isUsable : vault.isEnabled;
  if (placement === null || !isOpen(placement.manager) || !isSensible(placement)) {
    const pointer = input.storage === undefined ? "/manager" : "/storage";
    throw badInput("invalid_value", "body", pointer, "This storage and manager are not enabled here.");
  }
  if (moved || placement.storage === "external") grant.require("manage", path);
  return { placement, moved };
}

/** The local manager keeps keys, and no values of its own. */
export function isSensible({ storage, manager }: Placement): boolean {
  return storage === "envelope" || manager !== "local";
}
