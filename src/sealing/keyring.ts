// The key hierarchy: a manager's guard → one key-encryption key (KEK) per tenant → one data key per owner and
// generation. Every key rests wrapped, bound to its tenant, owner, id and generation, so that a row moved elsewhere
// does not unwrap; in memory keys are KeyObjects in bounded caches. A key is used only once its row is committed:
// of several replicas that make an owner's first key at once, all end with the one that the store kept.
import { type KeyObject, randomBytes } from "node:crypto";
import { INSTANCE_TENANT } from "../domain/audit.ts";
import { BrokerError, unavailable } from "../domain/errors.ts";
import type { Clock, NewId, OwnerKey } from "../domain/ports.ts";
import type { DataKeyRecord, KeyStore } from "../domain/sealing-ports.ts";
import { createRecent } from "../domain/recent.ts";
import type { ManagerName } from "../domain/setting.ts";
import {
  type Associated,
  EnvelopeError,
  KEY_BYTES,
  associatedData,
  openBytes,
  sealBytes,
  takeKey,
} from "./envelope.ts";
import { createKeks, isBefore } from "./kek.ts";
import { type HeldKey, type KeyCacheBounds, createKeyCache } from "./key-cache.ts";
import type { KeyGuard } from "./key-guard.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";
import type { RowMac } from "./row-mac.ts";
import { createSingleFlight } from "./single-flight.ts";

/**
 * An owner's data key gets a successor at the first write after so many days, and after `coffer keys rotate`. That, and not a count in memory that a
 * restart forgets, keeps a key under the 2^32 sealings of NIST SP 800-38D section 8.3: each sealing leaves a row, and
 * one owner would have to write 550 versions every second of the whole time.
 */
const DATA_KEY_DAYS = 90;
const DAY_MS = 86_400_000;
/** How often a rotation may come between before it is somebody else's turn to try. */
const TRIES_MAX = 5;
const BOUNDS: KeyCacheBounds = { countMax: 10_000, ageMaxSeconds: 600, usesMax: 2 ** 20 };

export type DataKey = { readonly id: string; readonly key: KeyObject };
export type KeyOutcome =
  | { readonly kind: "key"; readonly key: KeyObject }
  /** There is no such row. */
  | { readonly kind: "missing" }
  | { readonly kind: "failed"; readonly error: BrokerError };

export type Keyring = {
  /**
   * The data key that an owner's next value is sealed under, of those that a manager guards; makes it, and the KEK
   * over it, when there is none.
   * @throws BrokerError `manager_failed` when the owner's key cannot be used; what store and guard throw
   */
  currentDataKey(key: OwnerKey, manager: ManagerName): Promise<DataKey>;
  /**
   * The one that was answered last, where it is in memory still and not too old. It may be gone or rotated away by now:
   * what is sealed under it is good only where `Transaction.holdDataKey` says so.
   */
  lastDataKey(key: OwnerKey, manager: ManagerName): DataKey | null;
  /** One outcome for each id. One read of the store for all that are not in memory; those under way are shared. */
  dataKeys(tenantId: string, ids: readonly string[]): Promise<ReadonlyMap<string, KeyOutcome>>;
  /** One key that is in memory; null when it is not. */
  cached(tenantId: string, id: string): HeldKey | null;
  /** Drops the keys of an owner and, when that is an organization, of its projects. */
  forget(ownerId: string): void;
  /** True when there is a guard for the manager. */
  guards(manager: ManagerName): boolean;
  /** Puts the KEKs of `local` under the master key that the database names; answers how many were under another. */
  resealKeks(): Promise<number>;
};

type KeyringDeps = {
  readonly keyStore: KeyStore;
  readonly guards: ReadonlyMap<ManagerName, KeyGuard>;
  readonly rowMac: Pick<RowMac, "ofSecret" | "isGenuineSecret">;
  readonly masterKeys: MasterKeyRing;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly bounds?: KeyCacheBounds;
  /** Told of each data key looked for in memory, whether it was there. */
  readonly onKeyLookedFor?: ((found: boolean) => void) | undefined;
};

export function createKeyring({ bounds = BOUNDS, ...deps }: KeyringDeps): Keyring {
  const { keyStore, guards, clock, newId } = deps;
  const keks = createKeks(deps);
  const cache = createKeyCache(clock, bounds, deps.onKeyLookedFor);
  const owners = createSingleFlight<DataKey>();
  const last = createRecent<Pick<DataKeyRecord, "id" | "created_at">>(bounds.countMax);
  const loads = createSingleFlight<KeyOutcome>();

  async function unwrap(record: DataKeyRecord): Promise<KeyObject> {
    const name = nameOf(record.tenant_id, record.id);
    const kept = cache.take(name);
    if (kept !== null) return kept.key;
    const asOf = cache.asOf();
    const kek = await keks.load({ tenant_id: record.kek_tenant, id: record.kek_id, manager: record.manager });
    try {
      const key = takeKey(openBytes(kek, associatedWith(record), record.wrapped));
      cache.put(name, key, [record.owner_id, record.tenant_id], asOf);
      return key;
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
      throw new BrokerError("manager_failed", "This owner's data key cannot be used.", {}, error);
    }
  }

  async function inUse(record: DataKeyRecord): Promise<DataKey> {
    const key = await unwrap(record);
    const { id, created_at } = record;
    last.put(ownerName(record, record.manager), { id, created_at });
    return { id, key };
  }

  /**
   * The row that is there in the end is unwrapped, also when it is the one just made: nothing is sealed under a key
   * before it has been seen to open again.
   */
  async function make(owner: OwnerKey, manager: ManagerName, generation: number): Promise<DataKey> {
    const { tenant_id, owner_type, owner_id } = owner;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const kek = await keks.current(owner_type === "user" ? INSTANCE_TENANT : tenant_id, manager);
      const wrapping = await keks.load(kek);
      const under = { kek_tenant: kek.tenant_id, kek_id: kek.id };
      const place = { tenant_id, owner_type, owner_id, id: newId(), generation, manager, ...under };
      const bytes = randomBytes(KEY_BYTES);
      const wrapped = sealBytes(wrapping, associatedWith(place), bytes);
      bytes.fill(0);
      const kept = await keyStore.insertDataKey({ ...place, wrapped, created_at: clock.now() });
      // Null: the KEK was rotated away under our hands.
      if (kept !== null) return inUse(kept);
    }
    throw unavailable("The keys are being replaced; try again.");
  }

  /** Rejects for nothing that the broker knows: that is the outcome of the ids concerned. */
  async function fetch(tenantId: string, ids: readonly string[]): Promise<ReadonlyMap<string, KeyOutcome>> {
    try {
      const records = await keyStore.dataKeys(tenantId, ids);
      const outcomes = records.map(async (record) => [record.id, await outcomeOf(unwrap(record))] as const);
      return new Map(await Promise.all(outcomes));
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      return new Map(ids.map((id) => [id, { kind: "failed", error }]));
    }
  }

  const isOld = ({ created_at }: Pick<DataKeyRecord, "created_at">): boolean =>
    clock.now().getTime() - created_at.getTime() >= DATA_KEY_DAYS * DAY_MS;

  return {
    // Which key is the newest is asked each time: a row that is gone (the owner removed elsewhere, a backup restored
    // under running replicas) must not be sealed under, since nothing could open that again after a restart.
    currentDataKey(owner, manager) {
      return owners.run(ownerName(owner, manager), async () => {
        const [newest, epoch] = await Promise.all([keyStore.newestDataKey(owner, manager), keyStore.epoch()]);
        if (newest === null) return make(owner, manager, 1);
        if (isOld(newest) || isBefore(newest, epoch)) return make(owner, manager, newest.generation + 1);
        return inUse(newest);
      });
    },

    lastDataKey(owner, manager) {
      const known = last.get(ownerName(owner, manager));
      if (known === undefined || isOld(known)) return null;
      const held = cache.take(nameOf(owner.tenant_id, known.id));
      return held === null ? null : { id: known.id, key: held.key };
    },

    async dataKeys(tenantId, ids) {
      const outcomes = new Map<string, KeyOutcome | Promise<KeyOutcome>>();
      const absent: string[] = [];
      for (const id of new Set(ids)) {
        const name = nameOf(tenantId, id);
        const held = cache.take(name);
        const known = held === null ? loads.under(name) : ({ kind: "key", key: held.key } as const);
        if (known === undefined) absent.push(id);
        else outcomes.set(id, known);
      }
      if (absent.length > 0) {
        const batch = fetch(tenantId, absent);
        for (const id of absent) {
          const pick = async (): Promise<KeyOutcome> => (await batch).get(id) ?? { kind: "missing" };
          outcomes.set(id, loads.run(nameOf(tenantId, id), pick));
        }
      }
      return new Map(
        await Promise.all([...outcomes].map(async ([id, outcome]) => [id, await outcome] as const)),
      );
    },

    cached: (tenantId, id) => cache.take(nameOf(tenantId, id)),

    forget(ownerId) {
      cache.forget(ownerId);
      keks.forget(ownerId);
    },

    guards: (name) => guards.has(name),

    resealKeks: () => keks.reseal(),
  };
}

/** Whose key it is and under which KEK: a wrapped key opens in no other row. */
function associatedWith(record: Omit<DataKeyRecord, "wrapped" | "created_at">): Associated {
  const { tenant_id, owner_type, owner_id, id, generation, kek_tenant, kek_id } = record;
  const fields = [tenant_id, owner_type, owner_id, id, generation, kek_tenant, kek_id];
  return associatedData("coffer data key v1", fields);
}

async function outcomeOf(work: Promise<KeyObject>): Promise<KeyOutcome> {
  try {
    return { kind: "key", key: await work };
  } catch (error) {
    if (error instanceof BrokerError) return { kind: "failed", error };
    throw error;
  }
}

const ownerName = ({ tenant_id, owner_type, owner_id }: OwnerKey, manager: ManagerName): string =>
  `${tenant_id}/${owner_type}/${owner_id}/${manager}`;

const nameOf = (tenantId: string, id: string): string => `${tenantId}/${id}`;
