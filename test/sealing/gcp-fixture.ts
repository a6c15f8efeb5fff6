// A GCP manager for tests: against the fake, or, where COFFER_TEST_GCP_ENDPOINT names one, against another endpoint:
// `host:port` of an emulator without TLS, or the word `google` for Google's own with the credentials of the environment.
// COFFER_TEST_GCP_PROJECT names the project there.
import { SecretManagerServiceClient } from "@google-cloud/secret-manager";
import { randomUUID } from "node:crypto";
import type { CloudManager, SecretAddress } from "../../src/domain/manager-ports.ts";
import { type GcpOptions, createGcpManager } from "../../src/sealing/gcp.ts";
import {
  type FakeGcp,
  type FakeGcpOptions,
  type FakeGcpSecret,
  type GcpFault,
  plainClient,
  startFakeGcp,
} from "../fakes/gcp.ts";
import type { ContractFault, ContractFixture } from "./manager-contract-kit.ts";

export const ELSEWHERE = process.env["COFFER_TEST_GCP_ENDPOINT"];
export const PROJECT =
  ELSEWHERE === undefined ? "acme-secrets" : (process.env["COFFER_TEST_GCP_PROJECT"] ?? "coffer-test");

const FAULTS: Readonly<Record<ContractFault["kind"], GcpFault>> = {
  throttle: { kind: "throttle" },
  denied: { kind: "error", errorName: "PERMISSION_DENIED" },
  unavailable: { kind: "error", errorName: "UNAVAILABLE" },
  reset: { kind: "reset" },
  cut_off: { kind: "cut_off" },
  hang: { kind: "hang" },
};

export const options = (endpoint: GcpOptions["endpoint"], more: Partial<GcpOptions> = {}): GcpOptions => ({
  project: PROJECT,
  location: null,
  replication: [],
  kmsKey: null,
  prefix: "coffer-test",
  endpoint,
  silence: () => {},
  now: () => performance.now(),
  // Retries come at once.
  random: () => 0,
  ...more,
});

type Resource = { readonly resource: string };

export type GcpFixture = {
  readonly fake: FakeGcp;
  readonly manager: CloudManager;
  readonly client: SecretManagerServiceClient;
  /** The address of a new secret of ours. */
  own(): Resource;
  write(address: Resource, text: string, kept?: readonly string[]): Promise<string>;
  /** What the fake has at an address. */
  inside(address: Resource): FakeGcpSecret | undefined;
  close(): Promise<void>;
};

/** A fake, a manager on it, and Google's plain client. */
export async function startGcp(
  more: Partial<GcpOptions> = {},
  fakeOptions: FakeGcpOptions = {},
): Promise<GcpFixture> {
  const fake = await startFakeGcp(fakeOptions);
  const manager = await createGcpManager(options(fake.endpoint, more));
  const client = plainClient(fake.endpoint);
  return {
    fake,
    manager,
    client,
    own: () => manager.addressOf(randomUUID()) as Resource,
    async write(address, text, kept = []) {
      const version = { address, token: randomUUID(), text, tags: {}, kept };
      return (await manager.write(version)).version_id;
    },
    inside: ({ resource }) => fake.secrets().find(({ name }) => name === resource),
    async close() {
      await Promise.all([client.close(), manager.close()]);
      await fake.close();
    },
  };
}

function elsewhere(): GcpOptions["endpoint"] {
  const [host = "", port = ""] = ELSEWHERE?.split(":") ?? [];
  return ELSEWHERE === "google" ? null : { host, port: Number(port) };
}

export async function gcpContractFixture(): Promise<ContractFixture> {
  const fake = ELSEWHERE === undefined ? await startFakeGcp() : null;
  const endpoint = fake?.endpoint ?? elsewhere();
  let passed = 0;
  const now = (): number => performance.now() + passed;
  const shared = options(endpoint, { now, prefix: `coffer-test-${randomUUID()}` });
  const manager = await createGcpManager(shared);
  const other = await createGcpManager(shared);
  const client = endpoint === null ? new SecretManagerServiceClient() : plainClient(endpoint);
  const foreign: string[] = [];

  return {
    manager,
    other,
    pass(milliseconds) {
      passed += milliseconds;
    },
    held: (at) => heldBy(client, at),
    async foreign(text) {
      const secretId = `theirs-${randomUUID()}`;
      const parent = `projects/${PROJECT}`;
      const resource = `${parent}/secrets/${secretId}`;
      foreign.push(resource);
      await client.createSecret({ parent, secretId, secret: { replication: { automatic: {} } } });
      await client.addSecretVersion({ parent: resource, payload: { data: Buffer.from(text) } });
      return { resource };
    },
    // By grammar: whether there is one is for the first read to say.
    nowhere: () => ({ resource: `projects/${PROJECT}/secrets/theirs/${randomUUID()}` }),
    noVersion: () => "4711",
    namesByGrammar: true,
    fake:
      fake === null
        ? null
        : {
            fault: ({ kind, ...more }) => fake.fault({ ...FAULTS[kind], ...more }),
            clearFaults: () => fake.clearFaults(),
            calls: () => fake.calls().length,
            struck: () => fake.calls().filter(({ fault }) => fault !== null).length,
          },
    forgetsAtOnce: fake !== null,
    async close() {
      for (const name of fake === null ? foreign : []) await client.deleteSecret({ name });
      await Promise.all([client.close(), manager.close(), other.close()]);
      await fake?.close();
    },
  };
}

/** The enabled versions, with their texts. */
async function heldBy(
  client: SecretManagerServiceClient,
  at: SecretAddress,
): Promise<ReadonlyMap<string, string> | null> {
  const parent = "resource" in at ? at.resource : "";
  try {
    const [versions] = await client.listSecretVersions({ parent });
    const held = new Map<string, string>();
    for (const { name } of versions.filter(({ state }) => state === "ENABLED").toReversed()) {
      const [{ payload }] = await client.accessSecretVersion({ name: name ?? "" });
      held.set(name?.split("/").at(-1) ?? "", Buffer.from(payload?.data ?? []).toString());
    }
    return held;
  } catch (error) {
    if ((error as { readonly code?: unknown }).code === 5) return null;
    throw error;
  }
}
