// Key-encryption keys: one per tenant and manager, guarded by the manager, made when first needed. They wrap data
// keys and nothing else. Of several replicas that make a tenant's KEK at once, all end with the one that the store
// kept; a KEK is used only once its record is committed, and in memory it is a KeyObject in a bounded cache.
import { type KeyObject, randomBytes } from "node:crypto";
import { BrokerError } from "../domain/errors.ts";
import type { Clock, NewId } from "../domain/ports.ts";
import type { KekRecord, KeyStore } from "../domain/sealing-ports.ts";
import type { ManagerName } from "../domain/setting.ts";
import { KEY_BYTES, takeKey } from "./envelope.ts";
import { createKeyCache } from "./key-cache.ts";
import type { KeyGuard } from "./key-guard.ts";
import { createSingleFlight } from "./single-flight.ts";

type KekDeps = {
  readonly keyStore: Pick<KeyStore, "newestKek" | "kek" | "insertKek" | "holdKek" | "confirmSecret">;
  readonly guards: ReadonlyMap<ManagerName, KeyGuard>;
  readonly clock: Clock;
  readonly newId: NewId;
};

type KekPlace = Pick<KekRecord, "tenant_id" | "id" | "manager">;

const nameOf = ({ tenant_id, id, manager }: KekPlace): string => `${tenant_id}/${id}/${manager}`;
const failed = (detail: string): BrokerError => new BrokerError("manager_failed", detail);

export function createKeks({ keyStore, guards, clock, newId }: KekDeps) {
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
      const rest = await guardOf(manager).protect(identity, bytes);
      return await keyStore.insertKek({ ...identity, ...rest, created_at: clock.now() });
    } finally {
      bytes.fill(0);
    }
  }

  /** A key in a cloud is made in three steps (record, secret, confirmation); whoever needs it next finishes them. */
  async function confirmed(record: KekRecord): Promise<KekPlace> {
    if (record.secret === null || record.secret.version_id !== null) return record;
    await keyStore.holdKek(record);
    await keyStore.confirmSecret(record, await guardOf(record.manager).confirm(record));
    return record;
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
        const key = takeKey(await guardOf(record.manager).recover(record));
        cache.put(name, key, [record.tenant_id], asOf);
        return key;
      };
      return cache.take(name) ?? loads.run(name, load);
    },

    forget: (tenantId: string): void => cache.forget(tenantId),
  };
}
