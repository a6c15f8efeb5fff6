// Which settings may hold the secret that a Comet note names.
import { type PrincipalFacts, isWithinCeilings } from "./access.ts";
import type { CometTarget } from "./comet.ts";
import type { SettingPlace } from "./manager-store-ports.ts";
import type { Reader } from "./ports.ts";

/** More than this are not looked through for one note. */
const PLACES_MAX = 20;

/** By the caller's roles; those first that their scopes let them open. Whether one of them gives a value is not decided. */
export async function placesFor(
  reader: Pick<Reader, "placesHolding">,
  caller: PrincipalFacts,
  { manager, secret }: CometTarget,
): Promise<readonly SettingPlace[]> {
  const found = await reader.placesHolding(caller.id, manager, secret);
  const [open = [], others = []] = [true, false].map((wanted) =>
    found.filter(({ key, path }) => isWithinCeilings(caller, "decrypt", key, path) === wanted),
  );
  return [...open, ...others].slice(0, PLACES_MAX);
}
