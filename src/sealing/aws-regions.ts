// The clients of AWS's SDK, one for each region that an address names, with all that keeps one region's trouble its own:
// places, breaker, deadline. The SDK is loaded when this is made and not before. It gets no logger, since its debug
// output prints values; it retries nothing, since its own retries know no deadline of ours.
import type { SecretsManager, SecretsManagerClientConfig } from "@aws-sdk/client-secrets-manager";
import { BrokerError } from "../domain/errors.ts";
import type { SecretAddress } from "../domain/manager-ports.ts";
import { type AwsAddress, addressFlaw } from "./aws-address.ts";
import { classifyAws } from "./aws-errors.ts";
import {
  type Budget,
  type CallsOptions,
  type ManagerCalls,
  createManagerCalls,
  startBudget,
} from "./manager-calls.ts";
import type { OperationKind } from "./manager-failures.ts";

/** A tenant may name any region: the clients of those not used for longest make room. */
const REGIONS_MAX = 24;
const CONNECT_MS = 1_000;
const ATTEMPT_MS = 1_500;

type SendOptions = { readonly abortSignal: AbortSignal };
type Send<T> = (client: SecretsManager, options: SendOptions) => Promise<T>;

export type AwsRegion = {
  /**
   * One call, made again where that can help. Each of ours is as good twice as once, thanks to tokens: `idempotent` is
   * false only where there is a better way than to make it again after an outage.
   * @throws BrokerError as manager-failures.ts has it
   */
  call<T>(
    operation: string,
    kind: OperationKind,
    budget: Budget,
    send: Send<T>,
    idempotent?: boolean,
  ): Promise<T>;
  /** When BatchGetSecretValue may be tried again, by the clock of `now`. */
  batchAfter: number;
};

export type AwsRegions = {
  /** The operator's; null when neither option nor the SDK's chain has one. */
  readonly own: string | null;
  budget(lane?: string | null): Budget;
  /** @throws BrokerError `manager_failed` for an address that cannot be asked for */
  at(address: SecretAddress): { readonly region: AwsRegion; readonly secretId: string };
  close(): void;
};

export type AwsRegionsOptions = Omit<CallsOptions, "manager"> & { readonly region: string | null };

export async function openAwsRegions({ region, ...options }: AwsRegionsOptions): Promise<AwsRegions> {
  const sdk = await import("@aws-sdk/client-secrets-manager");
  /** Found once, by the chain of the client that is there first, and shared. */
  let credentials: SecretsManagerClientConfig["credentials"];
  const open = new Map<
    string,
    AwsRegion & { readonly client: SecretsManager; readonly calls: ManagerCalls }
  >();

  function connect(name: string | null): SecretsManager {
    const client = new sdk.SecretsManager({
      ...(name === null ? {} : { region: name }),
      ...(credentials === undefined ? {} : { credentials }),
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: CONNECT_MS,
        requestTimeout: ATTEMPT_MS,
        // Without it the SDK only warns.
        throwOnRequestTimeout: true,
      },
    });
    credentials ??= client.config.credentials;
    return client;
  }

  function make(name: string) {
    const calls = createManagerCalls({ manager: "aws", ...options });
    const client = connect(name);
    return {
      client,
      calls,
      batchAfter: 0,
      call<T>(operation: string, kind: OperationKind, budget: Budget, send: Send<T>, idempotent = true) {
        const attempt = (abortSignal: AbortSignal): Promise<T> => send(client, { abortSignal });
        return calls.run(operation, attempt, classifyAws, { idempotent, kind, budget });
      },
    };
  }

  function makeRoom(): void {
    for (const [name, { client, calls }] of open) {
      if (open.size < REGIONS_MAX) return;
      if (calls.busy > 0) continue;
      open.delete(name);
      client.destroy();
    }
  }

  const probe = connect(region);
  const own = await probe.config.region().catch(() => null);
  probe.destroy();
  return {
    own,
    budget: (lane) => startBudget(options.now, undefined, lane),
    at(address) {
      const flaw = addressFlaw(address, own);
      if (flaw !== null) throw new BrokerError("manager_failed", flaw);
      const { secret_id: secretId, region: name } = address as AwsAddress;
      const known = open.get(name);
      if (known === undefined) makeRoom();
      const region = known ?? make(name);
      // A Map keeps its order: the first is the one not used for longest.
      open.delete(name);
      open.set(name, region);
      return { region, secretId };
    },
    close() {
      for (const { client } of open.values()) client.destroy();
      open.clear();
    },
  };
}
