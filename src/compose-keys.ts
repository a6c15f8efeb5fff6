// Where a configuration says that the master keys are, and what is derived from them for the log; part of compose-broker.ts.
import type { Config } from "./config.ts";
import type { NewId } from "./domain/ports.ts";
import type { SealSeeds } from "./sealing/audit-seal.ts";
import type { KeySource } from "./sealing/key-source.ts";
import type { Managers } from "./sealing/managers.ts";
import type { MasterKeyRing } from "./sealing/master-key-ring.ts";

export { generateMasterKey } from "./sealing/master-key.ts";

export function keySourcesOf(
  config: Config,
  managers: Managers,
  newId: NewId,
): { readonly own: KeySource; readonly next: KeySource | null } {
  const { masterKeyNext: next } = config;
  return { own: ownOf(config, managers, newId), next: next === null ? null : given(next) };
}

/** What the audit log is sealed with. */
export function sealSeedsOf(ring: MasterKeyRing): SealSeeds {
  return {
    current: () => ring.current().auditSealing,
    all: () => ring.all().map(({ auditSealing }) => auditSealing),
  };
}

function ownOf({ masterKey, manager, home }: Config, managers: Managers, newId: NewId): KeySource {
  if (masterKey.from === "home") return { from: "home", home };
  if (masterKey.from !== "manager") return given(masterKey);
  const keeper = manager === "local" ? undefined : managers.get(manager);
  if (keeper === undefined) throw new Error("the manager that keeps the master key is open");
  return { from: "manager", manager: keeper, newId };
}

function given(key: NonNullable<Config["masterKeyNext"]>): KeySource {
  return key.from === "file" ? key : { from: "environment", text: key.text.reveal() };
}
