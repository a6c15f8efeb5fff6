// Reading values from AWS Secrets Manager: what is asked for at the same time is asked for once, current versions
// twenty at a time. BatchGetSecretValue is only ever a short cut: it gives AWSCURRENT alone, so a result counts where it
// is the version that was wanted, and whatever it does not give, for whatever reason, is read by itself.
// A failure is that one's alone. Nothing of a value is kept once it has been handed out.
import type { GetSecretValueResponse } from "@aws-sdk/client-secrets-manager";
import { BrokerError } from "../domain/errors.ts";
import { LATEST, type Located, type Read } from "../domain/manager-ports.ts";
import { isNamed } from "./aws-address.ts";
import { isOperationRefused } from "./aws-errors.ts";
import type { AwsRegion, AwsRegions } from "./aws-regions.ts";
import type { Budget } from "./manager-calls.ts";
import { ManagerCallError, failureError, failureOf } from "./manager-failures.ts";
import { createSingleFlight } from "./single-flight.ts";

const BATCH_MAX = 20;
const BATCH_PAUSE_MS = 300_000;
const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Part of a batch's answer, or of a single one's. */
type Value = Pick<GetSecretValueResponse, "ARN" | "Name" | "VersionId" | "SecretString" | "SecretBinary">;
/** What a batch gave for a secret, if it gave anything. */
type Batched = (secretId: string) => Promise<Value | undefined>;
/** One that nobody is reading yet. */
type Fresh = { readonly name: string; readonly located: Located; readonly secretId: string };

export type AwsReader = {
  /** One version by a call of its own, begun now. */
  readonly single: (region: AwsRegion, secretId: string, versionId: string, budget: Budget) => Promise<Read>;
  /** See `CloudManager`. */
  readonly read: (wanted: readonly Located[]) => Promise<readonly Read[]>;
};

export function createAwsReader(regions: AwsRegions, now: () => number): AwsReader {
  const flights = createSingleFlight<Read>();

  async function single(
    region: AwsRegion,
    secretId: string,
    versionId: string,
    budget: Budget,
  ): Promise<Read> {
    const input = { SecretId: secretId, ...(versionId === LATEST ? {} : { VersionId: versionId }) };
    return settled(async () => {
      const value = await region.call("GetSecretValue", "read", budget, (client, options) =>
        client.getSecretValue(input, options),
      );
      // AWS may take a whole ARN for the beginning of another, longer one: that is not what was allowed to be read.
      if (isNamed(secretId, value)) return textOf(value);
      throw failureError("GetSecretValue", "read", { failure: "rejected", name: "OtherSecret" });
    });
  }

  async function batch(region: AwsRegion, ids: readonly string[], budget: Budget): Promise<readonly Value[]> {
    try {
      const input = { SecretIdList: [...ids] };
      const output = await region.call(
        "BatchGetSecretValue",
        "read",
        budget,
        (client, options) => client.batchGetSecretValue(input, options),
        false,
      );
      return output.SecretValues ?? [];
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      const { cause } = error;
      if (cause instanceof ManagerCallError && isOperationRefused(cause.facts))
        region.batchAfter = now() + BATCH_PAUSE_MS;
      return [];
    }
  }

  /** Asks for all secrets of one region together, where there are two or more. */
  function batches(region: AwsRegion, fresh: readonly Fresh[], budget: Budget): Batched {
    const ids = [...new Set(fresh.map(({ secretId }) => secretId))];
    if (ids.length < 2 || now() < region.batchAfter) return async () => undefined;
    const asked = new Map<string, Promise<readonly Value[]>>();
    for (let at = 0; at < ids.length; at += BATCH_MAX) {
      const some = ids.slice(at, at + BATCH_MAX);
      const values = batch(region, some, budget);
      for (const id of some) asked.set(id, values);
    }
    return async (secretId) => (await asked.get(secretId))?.find((value) => isNamed(secretId, value));
  }

  async function read(wanted: readonly Located[], lane?: string): Promise<readonly Read[]> {
    const results = new Map<string, Promise<Read>>();
    const groups = new Map<AwsRegion, Fresh[]>();
    for (const located of wanted) {
      const name = nameOf(located);
      if (results.has(name)) continue;
      const under = flights.under(name);
      if (under !== undefined) results.set(name, under);
      else
        try {
          const { region, secretId } = regions.at(located);
          const group = groups.get(region);
          if (group === undefined) groups.set(region, [{ name, located, secretId }]);
          else group.push({ name, located, secretId });
        } catch (error) {
          results.set(name, Promise.resolve(failed(error)));
        }
    }
    const budget = regions.budget(lane);
    for (const [region, fresh] of groups) {
      const batched = batches(region, fresh, budget);
      for (const { name, located, secretId } of fresh) {
        const { version_id } = located;
        const flight = flights.run(name, async () => {
          const value = await batched(secretId);
          const isWanted = value !== undefined && (version_id === LATEST || value.VersionId === version_id);
          return isWanted ? settled(async () => textOf(value)) : single(region, secretId, version_id, budget);
        });
        results.set(name, flight);
      }
    }
    return Promise.all(wanted.map((located) => results.get(nameOf(located)) ?? missing()));
  }

  return { single, read };
}

const nameOf = (located: Located): string =>
  "secret_id" in located ? JSON.stringify([located.region, located.secret_id, located.version_id]) : "";

function missing(): never {
  throw new Error("a wanted version was neither read nor refused");
}

/** @throws BrokerError `manager_failed` for bytes that are no text */
function textOf({ SecretString: string, SecretBinary: binary, VersionId: version_id }: Value): Read {
  if (version_id !== undefined && string !== undefined) return { kind: "text", text: string, version_id };
  if (version_id !== undefined && binary !== undefined)
    try {
      return { kind: "text", text: TEXT.decode(binary), version_id };
    } catch {
      // As below: what the decoder says is dropped with the bytes.
    }
  throw failureError("GetSecretValue", "read", { failure: "rejected", name: "NoText" });
}

/** The outcome of a read, whatever it is. */
export async function settled(work: () => Promise<Read>): Promise<Read> {
  try {
    return await work();
  } catch (error) {
    return failed(error);
  }
}

function failed(error: unknown): Read {
  if (!(error instanceof BrokerError)) throw error;
  const failure = failureOf(error);
  const absent = failure === "absent" || failure === "scheduled_for_deletion";
  return { kind: "failed", absent, error };
}
