// A fake of Google Cloud's Secret Manager for tests: gRPC on a port of the loopback interface, spoken to with the real
// client. It keeps the real one's rules (gcp-store.ts), can be looked into, and fails on demand in the ways that a
// network and a cloud fail. Nothing in it waits on a clock, but for a delay that was asked for.
import { SecretManagerServiceClient } from "@google-cloud/secret-manager";
import { setTimeout as sleep } from "node:timers/promises";
import { type Fault, type Storm, createFaults } from "./aws-faults.ts";
import { createMethods, routingOf } from "./gcp-methods.ts";
import { CODES, GrpcStatus, type State, type StoredSecret, createStore } from "./gcp-store.ts";
import { type Outcome, type WireCall, gax, startWire } from "./gcp-wire.ts";

/**
 * The kinds are those of aws-faults.ts. Here `error` takes a `code`, or its name as `errorName`; `status` and `html`
 * are a proxy's page; `reset` tears the connection, `cut_off` the one stream, after the call was applied.
 */
export type GcpFault = Fault & {
  readonly code?: number;
  /** ErrorInfo's `reason`, which is sent beside the status. */
  readonly reason?: string;
};

export type FakeGcpSecret = {
  /** With the project's id, however it was asked for. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Both as they were sent. */
  readonly replication: unknown;
  readonly customer_managed_encryption: unknown;
  /** Oldest first. `text` is undefined once it is destroyed. */
  readonly versions: readonly {
    readonly id: string;
    readonly state: State;
    readonly text: string | undefined;
    /** Whether the writer sent a checksum along. */
    readonly checked: boolean;
  }[];
};

export type FakeGcpCall = {
  readonly operation: string;
  /** The resource that it is about: a secret, a version, a parent. */
  readonly name: string;
  readonly fault: string | null;
};

export type FakeGcpOptions = {
  /** The longest page of a list. */
  readonly pageMax?: number;
};

export type FakeGcp = {
  readonly endpoint: { readonly host: string; readonly port: number };
  /** What a broker needs to use the fake. */
  readonly environment: Readonly<Record<string, string>>;
  secrets(): readonly FakeGcpSecret[];
  /** Every call since the start or the last `forgetCalls`, in order of arrival. */
  calls(operation?: string): readonly FakeGcpCall[];
  forgetCalls(): void;
  /** Settles when the next call of this operation has arrived. */
  arrival(operation: string): Promise<void>;
  /** Gives a secret a TTL for destroyed versions, as an administrator may. */
  delayDestruction(name: string, seconds: number): void;
  fault(fault: GcpFault): void;
  /** Random faults on every call, until null. */
  storm(storm: Storm | null): void;
  clearFaults(): void;
  /** From now on lists and `latest` see no version that is not there yet; `false`: they have caught up. */
  lag(on: boolean): void;
  /** So many payloads arrive with a bit turned over. */
  damage(times: number): void;
  readonly connections: number;
  close(): Promise<void>;
};

const nameOf = (request: Readonly<Record<string, unknown>>): string =>
  [request["name"], request["parent"]].find((name) => typeof name === "string") ?? "";

export async function startFakeGcp({ pageMax = 25_000 }: FakeGcpOptions = {}): Promise<FakeGcp> {
  const store = createStore();
  const faults = createFaults();
  let calls: FakeGcpCall[] = [];
  let waiting: { readonly operation: string; readonly settle: () => void }[] = [];
  let damaged = 0;
  /** How many versions each secret had when the lag began; null: no lag. */
  let known: Map<string, number> | null = null;

  const methods = createMethods(store, {
    pageMax,
    hidden: ({ name, versions }) => (known === null ? 0 : versions.length - (known.get(name) ?? 0)),
    damages() {
      if (damaged === 0) return false;
      damaged -= 1;
      return true;
    },
  });

  function note(operation: string, request: Readonly<Record<string, unknown>>): GcpFault | null {
    const fault = faults.strike(operation);
    calls.push({ operation, name: nameOf(request), fault: fault?.kind ?? null });
    for (const each of waiting.filter((one) => one.operation === operation)) each.settle();
    waiting = waiting.filter((one) => one.operation !== operation);
    return fault;
  }

  function apply({ operation, request, headers }: WireCall): Outcome {
    const method = methods[operation];
    try {
      if (method === undefined) throw new GrpcStatus(CODES.UNIMPLEMENTED, "the fake does not have this");
      const message = request as Readonly<Record<string, unknown>>;
      if (headers["x-goog-request-params"] !== routingOf(operation, message))
        throw new GrpcStatus(CODES.INVALID_ARGUMENT, "the routing header does not name the resource");
      return { kind: "message", message: method(message) };
    } catch (error) {
      if (!(error instanceof GrpcStatus)) throw error;
      return statusOf(error.code, error.message, error.reason);
    }
  }

  async function answer(call: WireCall): Promise<Outcome> {
    const fault = note(call.operation, call.request as Readonly<Record<string, unknown>>);
    switch (fault?.kind) {
      case undefined:
        return apply(call);
      case "error":
        return statusOf(codeOf(fault), fault.message ?? "a fault", fault.reason);
      case "throttle":
        return statusOf(CODES.RESOURCE_EXHAUSTED, "Too many requests.", "RATE_LIMIT_EXCEEDED");
      case "status":
        return { kind: "page", status: fault.status ?? 503 };
      case "html":
        return { kind: "page", status: fault.status ?? 502 };
      case "delay":
        await (fault.until ?? sleep(fault.milliseconds ?? 50));
        return apply(call);
      case "reset":
        return { kind: "connection_torn" };
      case "cut_off": {
        // What was refused is refused: only what was done is cut off.
        const outcome = apply(call);
        return outcome.kind === "message" ? { kind: "stream_torn" } : outcome;
      }
      case "hang":
        return { kind: "silence" };
    }
  }

  const wire = await startWire(answer);
  return {
    endpoint: { host: "127.0.0.1", port: wire.port },
    environment: { COFFER_GCP_ENDPOINT: `127.0.0.1:${wire.port}` },
    secrets: () => [...store.secrets.values()].map(shown),
    calls: (operation) => calls.filter((call) => operation === undefined || call.operation === operation),
    forgetCalls() {
      calls = [];
    },
    delayDestruction(name, seconds) {
      store.secret(name).destroyTtlSeconds = seconds;
    },
    arrival: (operation) => new Promise((settle) => waiting.push({ operation, settle })),
    fault: (fault) => faults.add(fault),
    storm: (storm) => faults.storm(storm),
    clearFaults() {
      faults.clear();
      damaged = 0;
    },
    lag(on) {
      known = on ? new Map([...store.secrets].map(([name, { versions }]) => [name, versions.length])) : null;
    },
    damage(times) {
      damaged = times;
    },
    get connections() {
      return wire.connections;
    },
    close: () => wire.close(),
  };
}

/** Google's own client on an endpoint without TLS and without credentials: the fake's, or an emulator's. */
export function plainClient({ host, port }: FakeGcp["endpoint"]): SecretManagerServiceClient {
  return new SecretManagerServiceClient({
    apiEndpoint: host,
    port,
    "grpc.enable_http_proxy": 0,
    sslCreds: gax.grpc.credentials.createInsecure(),
    authClient: new gax.googleAuthLibrary.PassThroughClient(),
  });
}

function codeOf({ code, errorName }: GcpFault): number {
  const named = (CODES as Readonly<Record<string, number>>)[errorName ?? "INTERNAL"];
  const found = code ?? named;
  if (found === undefined) throw new Error(`"${errorName}" is no code of gRPC`);
  return found;
}

function statusOf(code: number, message: string, reason: string | undefined): Outcome {
  return { kind: "status", code, message, ...(reason !== undefined && { reason }) };
}

function shown(secret: StoredSecret): FakeGcpSecret {
  const { name, labels, annotations, replication, customerManagedEncryption, versions } = secret;
  return {
    name,
    labels: { ...labels },
    annotations: { ...annotations },
    replication,
    customer_managed_encryption: customerManagedEncryption,
    versions: versions.map(({ number, state, data, clientSentChecksum }) => ({
      id: String(number),
      state,
      text: state === "DESTROYED" ? undefined : data.toString(),
      checked: clientSentChecksum,
    })),
  };
}
