// Key-encryption keys: one per tenant and manager, guarded by the manager, made when first needed. They wrap data
// keys and nothing else. Of several replicas that make a tenant's KEK at once, all end with the one that the store
// kept; a KEK is used only once its record is committed, and in memory it is a KeyObject in a bounded cache.
import { type KeyObject, randomBytes } from "node:crypto";
import { BrokerError, unavailable } from "../domain/errors.ts";
import type { Clock, NewId } from "../domain/ports.ts";
import type { KekRecord, KeyStore } from "../domain/sealing-ports.ts";
import type { SecretIdentity } from "../domain/manager-ports.ts";
import type { ManagerName } from "../domain/setting.ts";
import { KEY_BYTES, takeKey } from "./envelope.ts";
import { createKeyCache } from "./key-cache.ts";
import type { KekIdentity, KeyGuard } from "./key-guard.ts";
import type { RowMac } from "./row-mac.ts";
import { createSingleFlight } from "./single-flight.ts";

type KekDeps = {
  /** Vouches for which secret in a manager is the key's. */
  readonly rowMac: Pick<RowMac, "ofSecret" | "isGenuineSecret">;
  readonly keyStore: Pick<KeyStore, "newestKek" | "kek" | "insertKek" | "holdKek" | "confirmSecret">;
  readonly guards: ReadonlyMap<ManagerName, KeyGuard>;
  readonly clock: Clock;
  readonly newId: NewId;
};

type KekPlace = Pick<KekRecord, "tenant_id" | "id" | "manager">;

const nameOf = ({ tenant_id, id, manager }: KekPlace): string => `${tenant_id}/${id}/${manager}`;
const failed = (detail: string): BrokerError => new BrokerError("manager_failed", detail);

export function createKeks({ keyStore, guards, rowMac, clock, newId }: KekDeps) {
  const cache = createKeyCache(clock, { countMax: 1_000, ageMaxSeconds: 600, usesMax: 2 ** 20 });
  const loads = createSingleFlight<KeyObject>();
  const makes = createSingleFlight<KekPlace>();

  function guardOf(manager: ManagerName): KeyGuard {
    const guard = guards.get(manager);
    if (guard === undefined)
      throw failed("The manager that guards this owner's keys is not configured here.");
    return guard;
  }

  async function make(tenantId: string, manager: ManagerName, generation: number): Promise<KekRecord> {
    const identity = { tenant_id: tenantId, id: newId(), manager, generation };
    const bytes = randomBytes(KEY_BYTES);
    try {
      const { sealed, secret } = await guardOf(manager).protect(identity, bytes);
      const signed = secret === null ? null : { ...secret, mac: macOf(identity, secret) };
      return await keyStore.insertKek({ ...identity, sealed, secret: signed, created_at: clock.now() });
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

  function macOf(kek: KekIdentity, secret: Pick<SecretIdentity, "address" | "version_id">): Buffer {
    return rowMac.ofSecret(identityOf(kek, secret));
  }

  /** Nothing is asked of a manager about a secret that somebody else put in the place of ours. */
  function assertGenuine(record: KekRecord): void {
    const { secret } = record;
    if (secret === null) return;
    const row = { ...identityOf(record, secret), unsettled_at: null, attempts: 0, mac: secret.mac };
    if (!rowMac.isGenuineSecret(row))
      throw failed("The record of the key that guards this owner's data key was altered.");
  }

  async function confirm(record: KekRecord): Promise<boolean> {
    if (record.secret === null) return true;
    const version_id = await guardOf(record.manager).confirm(record);
    return keyStore.confirmSecret(record, version_id, macOf(record, { ...record.secret, version_id }));
  }

  /** A key in a cloud is made in three steps (record, secret, confirmation); whoever needs it next finishes them. */
  async function confirmed(record: KekRecord): Promise<KekPlace> {
    if (record.secret === null || record.secret.version_id !== null) return record;
    assertGenuine(record);
    const isDone = (await keyStore.holdKek(record)) && (await confirm(record));
    // Another has confirmed it meanwhile, or undone it.
    const now = isDone ? record : await keyStore.kek(record.tenant_id, record.id);
    if (isDone || (now?.secret?.version_id ?? null) !== null) return record;
    throw unavailable("The key that guards this owner's data key is being made; try again.");
  }

  return {
    /** The KEK that a tenant's next data key is wrapped under; makes it when there is none. */
    current: (tenantId: string, manager: ManagerName): Promise<KekPlace> =>
      makes.run(`${tenantId}/${manager}`, async () => {
        const newest = await keyStore.newestKek(tenantId, manager);
        return confirmed(newest ?? (await make(tenantId, manager, 1)));
      }),

    /** @throws BrokerError `manager_failed` when the record is gone or its guard refuses; a guard's or store's own */
    async load(place: KekPlace): Promise<KeyObject> {
      const name = nameOf(place);
      const load = async (): Promise<KeyObject> => {
        const asOf = cache.asOf();
        const record = await keyStore.kek(place.tenant_id, place.id);
        if (record === null || record.manager !== place.manager)
          throw failed("The key that guards this owner's data key is gone.");
        assertGenuine(record);
        const key = takeKey(await guardOf(record.manager).recover(record));
        cache.put(name, key, [record.tenant_id], asOf);
        return key;
      };
      return cache.take(name) ?? loads.run(name, load);
    },

    forget: (tenantId: string): void => cache.forget(tenantId),
  };
}
