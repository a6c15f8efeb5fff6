// Key-encryption keys: one per tenant, manager and generation, guarded by the manager, made when first needed. They
// wrap data keys and nothing else. Of several replicas that make a tenant's KEK at once, all end with the one that the
// store kept; a KEK is used only once its record is committed, and in memory it is a KeyObject in a bounded cache.
// One that was made before the last rotation, or under a master key that was replaced since, wraps nothing new.
import { type KeyObject, randomBytes } from "node:crypto";
import { BrokerError, unavailable } from "../domain/errors.ts";
import type { Clock, NewId } from "../domain/ports.ts";
import type { SecretIdentity } from "../domain/manager-ports.ts";
import type { KekRecord, KeyEpoch, KeyStore } from "../domain/sealing-ports.ts";
import type { ManagerName } from "../domain/setting.ts";
import { KEY_BYTES, takeKey } from "./envelope.ts";
import { createKeyCache } from "./key-cache.ts";
import type { KekIdentity, KeyGuard } from "./key-guard.ts";
import { sealKek } from "./kek-sealing.ts";
import type { MasterKeys } from "./master-key.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";
import type { RowMac } from "./row-mac.ts";
import { createSingleFlight } from "./single-flight.ts";

/** How often a rotation or a new master key may come between before it is somebody else's turn to try. */
const TRIES_MAX = 5;
const PAGE = 100;

type KekDeps = {
  /** Vouches for which secret in a manager is the key's. */
  readonly rowMac: Pick<RowMac, "ofSecret" | "isGenuineSecret">;
  readonly keyStore: Pick<
    KeyStore,
    "epoch" | "newestKek" | "kek" | "insertKek" | "holdKek" | "confirmSecret" | "localKeks" | "resealKek"
  >;
  readonly guards: ReadonlyMap<ManagerName, KeyGuard>;
  readonly masterKeys: MasterKeyRing;
  readonly clock: Clock;
  readonly newId: NewId;
};

type KekPlace = Pick<KekRecord, "tenant_id" | "id" | "manager">;

const nameOf = ({ tenant_id, id, manager }: KekPlace): string => `${tenant_id}/${id}/${manager}`;
const failed = (detail: string): BrokerError => new BrokerError("manager_failed", detail);

export function createKeks({ keyStore, guards, rowMac, masterKeys, clock, newId }: KekDeps) {
  const cache = createKeyCache(clock, { countMax: 1_000, ageMaxSeconds: 600, usesMax: 2 ** 20 });
  const loads = createSingleFlight<KeyObject>();
  const makes = createSingleFlight<KekPlace>();

  function guardOf(manager: ManagerName): KeyGuard {
    const guard = guards.get(manager);
    if (guard === undefined)
      throw failed("The manager that guards this owner's keys is not configured here.");
    return guard;
  }

  /** Null when the master key was replaced meanwhile. */
  async function make(
    place: Pick<KekRecord, "tenant_id" | "manager" | "generation">,
    { key_check }: KeyEpoch,
  ): Promise<KekRecord | null> {
    const identity = { ...place, id: newId() };
    const under = masterKeys.named(key_check);
    const bytes = randomBytes(KEY_BYTES);
    try {
      const { sealed, secret } = await guardOf(place.manager).protect(identity, bytes, under);
      const signed = secret === null ? null : { ...secret, mac: macOf(identity, secret, under) };
      const record = { ...identity, sealed, secret: signed, created_at: clock.now() };
      return await keyStore.insertKek(record, under.keyCheck);
    } finally {
      bytes.fill(0);
    }
  }

  /** The row of the secret that holds a key, as its MAC has it. */
  function identityOf(
    kek: KekIdentity,
    secret: Pick<SecretIdentity, "address" | "version_id">,
  ): SecretIdentity {
    const { tenant_id, id, manager } = kek;
    if (manager === "local") throw new Error("a local key is in no secret");
    const { address, version_id } = secret;
    const purpose = "key_encryption_key" as const;
    return {
      tenant_id,
      id,
      purpose,
      manager,
      address,
      version_id,
      setting_id: null,
      owner: null,
      path: null,
    };
  }

  function macOf(
    kek: KekIdentity,
    secret: Pick<SecretIdentity, "address" | "version_id">,
    under: MasterKeys,
  ): Buffer {
    return rowMac.ofSecret(identityOf(kek, secret), under);
  }

  /** Nothing is asked of a manager about a secret that somebody else put in the place of ours. */
  function assertGenuine(record: KekRecord): void {
    const { secret } = record;
    if (secret === null) return;
    const row = { ...identityOf(record, secret), unsettled_at: null, attempts: 0, mac: secret.mac };
    if (!rowMac.isGenuineSecret(row))
      throw failed("The record of the key that guards this owner's data key was altered.");
  }

  /**
   * A key in a cloud is made in three steps (record, secret, confirmation); whoever needs it next finishes them.
   * False when its secret is under another master key than the database names: that key is left to be undone.
   */
  async function confirmed(record: KekRecord): Promise<boolean> {
    const { secret } = record;
    if (secret === null || secret.version_id !== null) return true;
    assertGenuine(record);
    if (!(await keyStore.holdKek(record))) return confirmedMeanwhile(record);
    // Read after the record was: what made it is no newer than what is named now.
    const { key_check } = await keyStore.epoch();
    const { version_id, under } = await guardOf(record.manager).confirm(record, masterKeys.named(key_check));
    const mac = macOf(record, { ...secret, version_id }, under);
    const noted = await keyStore.confirmSecret(record, version_id, under.keyCheck, mac);
    return noted === "gone" ? confirmedMeanwhile(record) : noted === "noted";
  }

  /** @throws BrokerError `unavailable` when it was undone */
  async function confirmedMeanwhile({ tenant_id, id }: KekRecord): Promise<boolean> {
    const now = await keyStore.kek(tenant_id, id);
    if ((now?.secret?.version_id ?? null) !== null) return true;
    throw unavailable("The key that guards this owner's data key is being made; try again.");
  }

  async function current(tenant_id: string, manager: ManagerName): Promise<KekPlace> {
    let passedOver: string | null = null;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const epoch = await keyStore.epoch();
      const newest: KekRecord | null = await keyStore.newestKek(tenant_id, manager);
      const isGood: boolean = newest !== null && newest.id !== passedOver && !isBefore(newest, epoch);
      const generation = (newest?.generation ?? 0) + 1;
      const record: KekRecord | null = isGood
        ? newest
        : await make({ tenant_id, manager, generation }, epoch);
      if (record === null) continue;
      if (await confirmed(record)) return record;
      passedOver = record.id;
    }
    throw unavailable("The keys are being replaced; try again.");
  }

  return {
    /** The KEK that a tenant's next data key is wrapped under; makes it when there is none. */
    current: (tenantId: string, manager: ManagerName): Promise<KekPlace> =>
      makes.run(`${tenantId}/${manager}`, () => current(tenantId, manager)),

    /** @throws BrokerError `manager_failed` when the record is gone or its guard refuses; a guard's or store's own */
    async load(place: KekPlace): Promise<KeyObject> {
      const name = nameOf(place);
      const load = async (): Promise<KeyObject> => {
        const asOf = cache.asOf();
        const record = await keyStore.kek(place.tenant_id, place.id);
        if (record === null || record.manager !== place.manager)
          throw failed("The key that guards this owner's data key is gone.");
        assertGenuine(record);
        const key = takeKey((await guardOf(record.manager).recover(record)).bytes);
        cache.put(name, key, [record.tenant_id], asOf);
        return key;
      };
      return cache.take(name)?.key ?? loads.run(name, load);
    },

    /**
     * Seals the local keys that are under a master key that is being replaced under the one that the database names;
     * one that opens under none is left as it is. @returns how many it sealed anew
     */
    async reseal(): Promise<number> {
      const under = masterKeys.named((await keyStore.epoch()).key_check);
      let count = 0;
      for (let after: KekRecord | null = null; ; ) {
        const page: readonly KekRecord[] = await keyStore.localKeks(after, PAGE);
        for (const record of page) {
          const recovered = await guardOf("local")
            .recover(record)
            .catch((error: unknown) => {
              if (error instanceof BrokerError) return null;
              throw error;
            });
          if (recovered === null) continue;
          const { bytes } = recovered;
          try {
            if (recovered.under === under) continue;
            if (await keyStore.resealKek(record, sealKek(under, record, bytes), under.keyCheck)) count += 1;
          } finally {
            bytes.fill(0);
          }
        }
        after = page.at(-1) ?? null;
        if (after === null) return count;
      }
    },

    forget: (tenantId: string): void => cache.forget(tenantId),
  };
}

/** Whether a key has to have a successor, since it was made before the last rotation. */
export function isBefore(
  { created_at }: { readonly created_at: Date },
  { keys_rotated_at }: Pick<KeyEpoch, "keys_rotated_at">,
): boolean {
  return keys_rotated_at !== null && created_at.getTime() < keys_rotated_at.getTime();
}
