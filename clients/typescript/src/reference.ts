// `[coffer://]<owner_type>/<owner_id>/<path>[?version=N][#field]`, for the calls that need its parts. Resolving leaves
// references to the broker.
import { CofferError } from "./error.ts";
import type { Address, OwnerType } from "./types.ts";

export type Target = Address & { readonly version?: number | undefined; readonly field?: string | undefined };

const REFERENCE =
  /^(?:coffer:\/\/)?(?<ownerType>organization|project|user)\/(?<ownerId>[^/?#]+)\/(?<path>[^?#]+)(?:\?version=(?<version>[1-9]\d*))?(?:#(?<field>\w+))?$/;

export function parseReference(text: string): Target {
  const { ownerType, ownerId, path, version, field } = REFERENCE.exec(text)?.groups ?? {};
  // The text is not quoted: somebody may have handed over a secret instead.
  if (ownerType === undefined || ownerId === undefined || path === undefined)
    throw new CofferError({
      status: 0,
      code: "invalid_reference",
      detail: "This is no reference that can be watched.",
    });
  return {
    ownerType: ownerType as OwnerType,
    ownerId,
    path,
    version: version === undefined ? undefined : Number(version),
    field,
  };
}
