// The clouds' secret managers that are configured, each loaded only then, and seen to work before the broker serves.
import { BrokerError } from "../domain/errors.ts";
import type { CloudManager, CloudName } from "../domain/manager-ports.ts";
import type { CallEvent } from "./manager-calls.ts";

export type ManagerSettings = {
  readonly names: readonly CloudName[];
  readonly prefix: string;
  readonly aws: { readonly region: string | null; readonly kmsKeyId: string | null };
  readonly gcp: {
    readonly project: string | null;
    readonly location: string | null;
    readonly replication: readonly string[];
    readonly kmsKey: string | null;
    readonly endpoint: { readonly host: string; readonly port: number } | null;
  };
};

export type ManagerHooks = {
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number;
  readonly onCall: (event: CallEvent) => void;
  /** Told of a manager that is away at the start; the broker serves what does not need it. */
  readonly onAway: (name: CloudName, error: BrokerError) => void;
  /** Keeps Google's library from printing payloads; called before it is loaded. */
  readonly silenceGoogle: () => void;
};

export type Managers = ReadonlyMap<CloudName, CloudManager>;

/** @throws Error that says what an operator has to set, when a manager can never work as configured */
export async function openManagers(settings: ManagerSettings, hooks: ManagerHooks): Promise<Managers> {
  const opened = new Map<CloudName, CloudManager>();
  try {
    for (const name of settings.names) opened.set(name, await open(name, settings, hooks));
    for (const [name, manager] of opened) await seeToIt(name, manager, hooks);
    return opened;
  } catch (error) {
    for (const manager of opened.values()) await manager.close();
    if (!(error instanceof BrokerError)) throw error;
    throw new Error(`A secret manager cannot be used as configured. ${error.message}`, { cause: error });
  }
}

async function open(
  name: CloudName,
  { prefix, aws, gcp }: ManagerSettings,
  hooks: ManagerHooks,
): Promise<CloudManager> {
  const { now, onCall, silenceGoogle: silence } = hooks;
  switch (name) {
    case "aws": {
      const { createAwsManager } = await import("./aws.ts");
      return createAwsManager({ ...aws, prefix, now, onCall });
    }
    case "gcp": {
      const { createGcpManager } = await import("./gcp.ts");
      return createGcpManager({ ...gcp, prefix, now, onCall, silence });
    }
  }
}

async function seeToIt(name: CloudName, manager: CloudManager, { onAway }: ManagerHooks): Promise<void> {
  try {
    await manager.check();
  } catch (error) {
    if (!(error instanceof BrokerError && error.code === "unavailable")) throw error;
    onAway(name, error);
  }
}

const CHECK_MS = 15_000;

/** Whether each manager works, asked at most every 15 seconds: a probe of ours must cost nobody a quota. */
export function createManagerHealth(managers: Managers, now: () => number) {
  const seen = new Map<CloudName, { readonly at: number; readonly ok: Promise<boolean> }>();
  return async (): Promise<readonly (readonly [CloudName, boolean])[]> =>
    Promise.all(
      [...managers].map(async ([name, manager]) => {
        const last = seen.get(name);
        const fresh =
          last !== undefined && now() - last.at < CHECK_MS ? last : { at: now(), ok: isWell(manager) };
        seen.set(name, fresh);
        return [name, await fresh.ok] as const;
      }),
    );
}

async function isWell(manager: CloudManager): Promise<boolean> {
  try {
    await manager.check();
    return true;
  } catch {
    // What is wrong is in the metrics of its calls.
    return false;
  }
}
