// A vault from the master keys and the managers that are open: every guard, key and cache of it.
import type { ExternalAllow } from "../domain/external.ts";
import type { Clock, NewId } from "../domain/ports.ts";
import type { KeyStore, Vault } from "../domain/sealing-ports.ts";
import type { ManagerName, Placement } from "../domain/setting.ts";
import { createCloudGuard } from "./cloud-guard.ts";
import type { KeyGuard } from "./key-guard.ts";
import { createKeyring } from "./keyring.ts";
import { createLocalGuard } from "./local.ts";
import type { Managers } from "./managers.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";
import { createRowMac } from "./row-mac.ts";
import type { VersionNow } from "./second-look.ts";
import { createValueCache } from "./value-cache.ts";
import { type VaultAlert, createVault } from "./vault.ts";

export type VaultSettings = {
  readonly masterKeys: MasterKeyRing;
  readonly managers: Managers;
  readonly keyStore: KeyStore;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly versionNow: VersionNow;
  readonly onAlert: (alert: VaultAlert) => void;
  /** Told of each data key looked for in memory, whether it was there. */
  readonly onKeyLookedFor?: (found: boolean) => void;
  readonly allow: ExternalAllow;
  /** 0: values from managers are never kept. */
  readonly cacheSeconds: number;
  readonly defaults: Placement;
  readonly enabled: readonly ManagerName[];
};

export function openVault({ masterKeys, managers, keyStore, clock, newId, ...rest }: VaultSettings): Vault {
  const { allow, cacheSeconds, defaults, enabled, versionNow, onAlert } = rest;
  const guards = new Map<ManagerName, KeyGuard>([["local", createLocalGuard(masterKeys)]]);
  for (const [name, manager] of managers) guards.set(name, createCloudGuard(manager, masterKeys));
  const rowMac = createRowMac(masterKeys);
  return createVault({
    masterKeys,
    keyring: createKeyring({
      keyStore,
      guards,
      rowMac,
      masterKeys,
      clock,
      newId,
      onKeyLookedFor: rest.onKeyLookedFor,
    }),
    rowMac,
    clouds: { managers, allow, cache: createValueCache(clock, cacheSeconds), clock },
    defaults,
    enabled,
    versionNow,
    onAlert,
  });
}
