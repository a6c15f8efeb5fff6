// Google's client for Secret Manager, one for each location that an address names: a regional secret is at an endpoint of
// its own, and one location's trouble stays its own. The SDK is loaded when this is made and not before. It logs nothing,
// for its debug output prints payloads; it retries nothing, for by default it retries a throttled read for ten minutes.
//
// Calls go through `innerApiCalls`: the public methods log requests and answers, decode the details of every error anew
// (8 to 14 ms each), and leave a second, unhandled rejection behind where the credentials fail. What they do besides is
// the routing header, which is made here.
import { createRequire } from "node:module";
import type { SecretManagerServiceClient } from "@google-cloud/secret-manager";
import { CredentialsError } from "./gcp-errors.ts";
import { type CallsOptions, type ManagerCalls, createManagerCalls } from "./manager-calls.ts";

export type GcpClientOptions = Omit<CallsOptions, "manager"> & {
  /** In place of Google's: a fake's or an emulator's, without TLS and without credentials. IPv6 is in brackets. */
  readonly endpoint: { readonly host: string; readonly port: number } | null;
  /** Takes from the environment what makes Google's libraries log: called before they are loaded. */
  readonly silence: () => void;
};

type Client = SecretManagerServiceClient;
type Parameters = ConstructorParameters<typeof SecretManagerServiceClient>;
type ClientOptions = NonNullable<Parameters[0]>;
type Gax = Extract<NonNullable<Parameters[1]>, { readonly grpc: unknown }>;
type Method = (request: object, options: object) => Promise<readonly [answer: unknown, next: object | null]>;

export type Request = {
  /** As the client calls it: `accessSecretVersion`. */
  readonly method: string;
  readonly message: object;
  /** Which field names the resource, and its value. */
  readonly routing: readonly [field: "name" | "parent", value: string];
};

export type GcpPlace = {
  readonly calls: ManagerCalls;
  /** One attempt. Of a list it answers one page, and the message that asks for the next; null after the last. */
  send(
    request: Request,
    signal: AbortSignal,
    milliseconds: number,
  ): Promise<{ readonly answer: unknown; readonly next: object | null }>;
};

export type GcpPlaces = {
  /** Null: what is global. */
  at(location: string | null): GcpPlace;
  /** The project of the credentials. @throws CredentialsError */
  project(): Promise<string>;
  /** Settles when the first client has found its credentials, or has failed to. */
  ready(location: string | null): Promise<void>;
  close(): Promise<void>;
};

/** A tenant may name any location: the clients of those not used for longest make room. */
const PLACES_MAX = 24;
/** After so many calls in a row without an answer a connection counts as dead: TCP would take a quarter of an hour. */
const SILENT_MAX = 3;
/** No call outlasts its budget of four seconds. */
const RETIRED_MS = 5_000;
/** Of the 100 that one connection takes by HTTP/2's usual limit. */
const CONCURRENT_MAX = 64;
const CHANNEL = {
  // The SDK's own: from 1 s up to 2 minutes. A manager that is back is to be used.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // Else a new client is given the old one's connection, which may be dead.
  "grpc.use_local_subchannel_pool": 1,
  // A retry policy could come with it, and with that blind retries of what must not be done twice.
  "grpc.service_config_disable_resolution": 1,
  enableTelemetryLogging: false,
};

/** Google's transport and credentials, as the client itself finds them: another copy's would not fit. */
function loadGax(): Gax {
  const client = createRequire(import.meta.url).resolve("@google-cloud/secret-manager");
  return createRequire(client)("google-gax") as Gax;
}

function clientOptions({ endpoint }: GcpClientOptions, location: string | null): ClientOptions {
  if (endpoint === null)
    return location === null
      ? CHANNEL
      : { ...CHANNEL, apiEndpoint: `secretmanager.${location}.rep.googleapis.com` };
  const { grpc, googleAuthLibrary } = loadGax();
  return {
    ...CHANNEL,
    "grpc.enable_http_proxy": 0,
    apiEndpoint: endpoint.host,
    port: endpoint.port,
    sslCreds: grpc.credentials.createInsecure(),
    // Without it the metadata server is asked first, for credentials that are then not used.
    authClient: new googleAuthLibrary.PassThroughClient(),
  };
}

type Place = GcpPlace & {
  readonly client: () => Promise<Client>;
  /** The next call gets a new client. */
  readonly retire: () => void;
};

/** Loads the SDK and makes no call yet. */
export async function openGcpPlaces(options: GcpClientOptions): Promise<GcpPlaces> {
  options.silence();
  const { SecretManagerServiceClient } = await import("@google-cloud/secret-manager");
  const open = new Map<string | null, Place>();
  /** Clients that are given no more calls, until they are closed. */
  const retired = new Set<Promise<Client>>();

  function makePlace(location: string | null): Place {
    let current: Promise<Client> | null = null;
    let silent = 0;

    async function connect(): Promise<Client> {
      const client = new SecretManagerServiceClient(clientOptions(options, location));
      try {
        await client.initialize();
      } catch (error) {
        throw new CredentialsError(error);
      }
      return client;
    }

    /** One that failed is not kept: it would fail for ever. */
    function client(): Promise<Client> {
      if (current !== null) return current;
      const connecting = connect();
      current = connecting;
      connecting.catch(() => {
        if (current === connecting) current = null;
      });
      return connecting;
    }

    function retire(): void {
      const old = current;
      current = null;
      if (old === null) return;
      retired.add(old);
      // The calls that are under way on it have ended by then.
      setTimeout(() => void closeRetired(old), RETIRED_MS).unref();
    }

    const calls = createManagerCalls({
      concurrentMax: CONCURRENT_MAX,
      ...options,
      manager: "gcp",
      onCall(event) {
        if (event.outcome !== "unsent") silent = event.outcome === "away" ? silent + 1 : 0;
        if (silent >= SILENT_MAX) {
          silent = 0;
          retire();
        }
        options.onCall?.(event);
      },
    });

    return {
      calls,
      client,
      retire,
      async send({ method, message, routing: [field, value] }, signal, milliseconds) {
        const { innerApiCalls } = await client();
        const call = innerApiCalls[method] as Method | undefined;
        if (call === undefined) throw new Error(`the SDK has no ${method}`);
        const headers = { "x-goog-request-params": `${field}=${encodeURIComponent(value)}` };
        const once = { timeout: milliseconds, retry: null, autoPaginate: false };
        const [answer, next] = await call(message, { ...once, signal, otherArgs: { headers } });
        return { answer, next };
      },
    };
  }

  async function closeRetired(old: Promise<Client>): Promise<void> {
    if (!retired.delete(old)) return;
    const client = await old.catch(() => null);
    // The channel alone: the client's own `close` would look for credentials, for a service that is not used here.
    const stub = await client?.secretManagerServiceStub;
    stub?.["close"]?.();
  }

  function makeRoom(): void {
    for (const [location, { calls, retire }] of open) {
      if (open.size < PLACES_MAX) return;
      if (calls.busy > 0) continue;
      open.delete(location);
      retire();
    }
  }

  function at(location: string | null): Place {
    const known = open.get(location);
    if (known === undefined) makeRoom();
    const place = known ?? makePlace(location);
    // A Map keeps its order: the first is the one not used for longest.
    open.delete(location);
    open.set(location, place);
    return place;
  }

  return {
    at,
    async project() {
      const place = at(null);
      const client = await place.client();
      return client.auth.getProjectId().catch((error: unknown) => {
        // It remembers its failures: the next to ask is to find what is there by then.
        place.retire();
        throw new CredentialsError(error);
      });
    },
    async ready(location) {
      await at(location).client();
    },
    async close() {
      for (const { retire } of open.values()) retire();
      open.clear();
      await Promise.all([...retired].map(closeRetired));
    },
  };
}
