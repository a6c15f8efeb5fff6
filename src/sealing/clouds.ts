// Values that are secrets in a cloud's manager: handed over, read back, pointed at. Each result is checked to be a value
// of its setting's type before anybody sees it; an external secret is checked against the allow-list at every read.
import { BrokerError, badInput, unavailable } from "../domain/errors.ts";
import {
  type ExternalAllow,
  isExternalAllowed,
  mayBeAllowed,
  notPointable,
  plaintextFrom,
} from "../domain/external.ts";
import type { CloudManager, CloudName, Located, Read, SecretAddress } from "../domain/manager-ports.ts";
import type { Clock } from "../domain/ports.ts";
import type { Clouds, Opened, Pointer } from "../domain/sealing-ports.ts";
import { WITHDRAWN } from "../domain/opening.ts";
import type { Location, ManagerName, SettingRow } from "../domain/setting.ts";
import { failureOf } from "./manager-failures.ts";
import type { ValueCache } from "./value-cache.ts";

export type CloudDeps = {
  readonly managers: ReadonlyMap<CloudName, CloudManager>;
  readonly allow: ExternalAllow;
  readonly cache: ValueCache;
  readonly clock: Clock;
};

/** What a version's row says of where its value lies, once the row is known to be a broker's. */
export type Remote = { readonly row: SettingRow; readonly manager: ManagerName; readonly location: Location };

/** How long a manager may take until all of it knows what was written. */
const SPREAD_MS = 10_000;

export function createClouds({ managers, allow, cache, clock }: CloudDeps) {
  function managerOf(name: ManagerName): CloudManager {
    const manager = name === "local" ? undefined : managers.get(name);
    if (manager === undefined)
      throw new BrokerError("manager_failed", "The manager of this value is not configured here.");
    return manager;
  }

  /** A pointer as an address: where it says no region, the one that our own secrets are in. */
  function pointedAt({ manager, address }: Pointer): SecretAddress {
    if ("resource" in address) {
      if (manager !== "gcp") throw misfit("A resource is GCP's; AWS has secret_id.");
      return address;
    }
    if (manager !== "aws") throw misfit("A secret_id is AWS's; GCP has resource.");
    const [, , , ofArn] = address.secret_id.split(":");
    const own = managerOf(manager).addressOf("region");
    const region = address.region ?? ofArn ?? ("region" in own ? own.region : "");
    return { secret_id: address.secret_id, region };
  }

  function valueIn({ row, location }: Remote, read: Read): Opened {
    if (read.kind === "failed") {
      const age = clock.now().getTime() - row.version.created_at.getTime();
      if (failureOf(read.error) !== "absent" || age > SPREAD_MS) return { kind: "failed", error: read.error };
      return {
        kind: "failed",
        error: unavailable("The secret manager does not have this value yet.", read.error),
      };
    }
    try {
      const { type } = row.setting;
      return { kind: "opened", plaintext: plaintextFrom(type, read.text, location.json_field ?? null) };
    } catch (error) {
      // What an owner of the secret may read in the cloud's console is not told here.
      const detail = "The secret in the manager is no value of this setting's type.";
      return { kind: "failed", error: new BrokerError("manager_failed", detail, {}, error) };
    }
  }

  /** All of one tenant and manager. */
  async function readAll(
    name: ManagerName,
    tenantId: string,
    remotes: readonly Remote[],
  ): Promise<readonly Opened[]> {
    const manager = managerOf(name);
    const reads = await manager.read(
      remotes.map(({ location }) => locatedIn(location)),
      tenantId,
    );
    return remotes.map((remote, index) => {
      const read = reads[index];
      if (read === undefined) throw new Error("a manager answers each read");
      const opened = valueIn(remote, read);
      if (opened.kind === "opened") cache.put(remote.row, opened.plaintext);
      return opened;
    });
  }

  const clouds: Clouds = {
    addressOf: (name, id) => managerOf(name).addressOf(id),
    versionsMax: (name) => managerOf(name).versionsMax,
    newestIsLast: (name) => managerOf(name).newestIsLast,
    async write(_permit, name, { plaintext, ...version }) {
      const { version_id } = await managerOf(name).write({ ...version, text: textOf(plaintext.bytes()) });
      return { ...version.address, version_id, bytes: plaintext.byteLength };
    },
    async reconcile(_permit, name, ...rest) {
      return managerOf(name).reconcile(...rest);
    },
    async point(_permit, tenantId, pointer, type) {
      const manager = managers.get(pointer.manager);
      if (manager === undefined) throw misfit("Its manager is not enabled here.");
      const asked = pointedAt(pointer);
      if (!mayBeAllowed(allow, tenantId, asked) || manager.isOwn(asked)) throw notPointable();
      const address = await manager.canonical(asked).catch(asUnreadable);
      if (!isExternalAllowed(allow, tenantId, address) || manager.isOwn(address)) throw notPointable();
      const { version_id, json_field } = pointer;
      const [read] = await manager.read([{ ...address, version_id }], tenantId);
      if (read?.kind !== "text") return asUnreadable(read?.error);
      const { byteLength } = plaintextFrom(type, read.text, json_field);
      return { ...address, version_id, ...(json_field === null ? {} : { json_field }), bytes: byteLength };
    },
  };

  /** One result for each, in order. A failure is that one's alone. */
  async function open(remotes: readonly Remote[]): Promise<readonly Opened[]> {
    const results = new Map<Remote, Opened>();
    const wanted: Remote[] = [];
    for (const remote of remotes) {
      const { row } = remote;
      const known = cache.take(row);
      if (!isAllowed(row)) results.set(remote, refused());
      else if (known !== null) results.set(remote, { kind: "opened", plaintext: known });
      else wanted.push(remote);
    }
    const groups = Map.groupBy(wanted, ({ manager, row }) => `${manager}/${row.setting.tenant_id}`);
    await Promise.all(
      [...groups.values()].map(async (each) => {
        const [first] = each;
        if (first === undefined) return;
        const opened = await readAll(first.manager, first.row.setting.tenant_id, each).catch(
          (error: unknown) => each.map(() => failedWith(error)),
        );
        for (const [index, remote] of each.entries()) results.set(remote, opened[index] ?? refused());
      }),
    );
    return remotes.map((remote) => results.get(remote) ?? refused());
  }

  function isAllowed({ setting, version: { storage, manager: name, location } }: SettingRow): boolean {
    if (storage !== "external" || location === null) return true;
    const manager = name === "local" ? undefined : managers.get(name);
    return (
      manager !== undefined &&
      !manager.isOwn(location) &&
      isExternalAllowed(allow, setting.tenant_id, location)
    );
  }

  return {
    clouds,
    open,
    isAllowed,
    has: (name: ManagerName): boolean => name !== "local" && managers.has(name),
  };
}

function locatedIn(location: Location): Located {
  const { version_id } = location;
  if ("resource" in location) return { resource: location.resource, version_id };
  return { secret_id: location.secret_id, region: location.region, version_id };
}

function textOf(bytes: Buffer): string {
  try {
    return bytes.toString("utf8");
  } finally {
    bytes.fill(0);
  }
}

function refused(): Opened {
  return { kind: "failed", error: new BrokerError("manager_failed", WITHDRAWN) };
}

function failedWith(error: unknown): Opened {
  if (error instanceof BrokerError) return { kind: "failed", error };
  throw error;
}

function misfit(detail: string): BrokerError {
  return badInput("invalid_value", "body", "/external", detail);
}

/** A manager that is away is told as that; anything else is a secret that cannot be pointed at. */
function asUnreadable(error: unknown): never {
  const isKnown = error === undefined || error instanceof BrokerError;
  if (error instanceof Error && (!isKnown || (error instanceof BrokerError && error.code === "unavailable")))
    throw error;
  const told = notPointable();
  throw new BrokerError(told.code, told.message, told.fields, error);
}
