// AWS Secrets Manager on loopback, at the wire: AWS JSON 1.1 over HTTP with real signatures, versions, labels, deletion
// windows, and faults on demand. Its state is in this process, so it outlives the brokers that are killed.
// It is for tests alone: its key pair is known to everybody.
import { randomUUID } from "node:crypto";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { AwsError } from "./aws-error.ts";
import { type Fault, type Storm, createFaults } from "./aws-faults.ts";
import { createOperations } from "./aws-operations.ts";
import { type Secret, type SecretRules, createSecrets } from "./aws-secrets.ts";
import { type KeyPair, verifySignature } from "./aws-signature.ts";

const TARGET = "secretsmanager.";
const CONTENT_TYPE = "application/x-amz-json-1.1";
const BODY_BYTES_MAX = 1_048_576;
const DAY_MS = 86_400_000;
/** A page as a load balancer sends it. */
const HTML = "<html><head><title>503 Service Temporarily Unavailable</title></head><body></body></html>";

/** AWS's own example; it opens nothing anywhere. */
export const FAKE_KEYS: KeyPair = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "fake-for-tests-only" };

export type FakeSecret = {
  readonly name: string;
  readonly region: string;
  readonly arn: string;
  readonly description: string | undefined;
  readonly kms_key_id: string | undefined;
  readonly tags: Readonly<Record<string, string>>;
  readonly deleting: boolean;
  /** Oldest first. */
  readonly versions: readonly {
    readonly id: string;
    readonly stages: readonly string[];
    readonly text: string | undefined;
    readonly binary: string | undefined;
  }[];
};

export type FakeCall = {
  readonly operation: string;
  readonly region: string;
  readonly secret_id: string | undefined;
  readonly fault: string | null;
};

export type FakeAws = {
  readonly url: string;
  /** What the SDK's standard chain needs to find and use the fake, and nothing else. */
  readonly environment: Readonly<Record<string, string>>;
  secrets(): readonly FakeSecret[];
  fault(fault: Fault): void;
  /** Random faults on every call, until null. */
  storm(storm: Storm | null): void;
  clearFaults(): void;
  /** Every call since the start or the last `forgetCalls`, in order of arrival. */
  calls(operation?: string): readonly FakeCall[];
  forgetCalls(): void;
  /** Moves the clock that deletion windows go by. */
  passDays(days: number): void;
  /** Forced deletions that were slow are done. */
  finishDeletions(): void;
  close(): Promise<void>;
};

export type FakeAwsOptions = Partial<Pick<SecretRules, "unlabelled" | "slowDeletion">> & {
  readonly region?: string;
};

/** Starts one on a port of its own. */
export async function startFakeAws(options: FakeAwsOptions = {}): Promise<FakeAws> {
  const { region = "eu-central-1", unlabelled = "vanish", slowDeletion = false } = options;
  let passed = 0;
  const now = (): number => Date.now() + passed;
  const secrets = createSecrets({ account: "123456789012", unlabelled, slowDeletion, now });
  const operations = createOperations(secrets, now);
  const faults = createFaults();
  let calls: FakeCall[] = [];

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request);
    try {
      const signed = { method: request.method ?? "", url: request.url ?? "/", headers: request.headers };
      const at = verifySignature(signed, body, FAKE_KEYS);
      const target = String(request.headers["x-amz-target"] ?? "");
      const name = target.startsWith(TARGET) ? target.slice(TARGET.length) : "";
      const input = parse(body);
      const fault = faults.strike(name);
      const secret_id = input["SecretId"] ?? input["Name"];
      calls.push({
        operation: name,
        region: at,
        secret_id: typeof secret_id === "string" ? secret_id : undefined,
        fault: fault?.kind ?? null,
      });
      if (fault !== null && (await before(fault, response))) return;
      const operation = operations.get(name);
      if (operation === undefined) throw new AwsError("UnknownOperationException", "");
      const output = operation(at, input);
      if (fault?.kind === "cut_off") response.destroy();
      else send(response, 200, output);
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      send(response, error.status, { __type: error.name, Message: error.message });
    }
  }

  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    environment: {
      AWS_ENDPOINT_URL_SECRETS_MANAGER: url,
      AWS_ACCESS_KEY_ID: FAKE_KEYS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: FAKE_KEYS.secretAccessKey,
      AWS_REGION: region,
      // Neither files of the person who runs the tests nor the metadata server of the machine have a say.
      AWS_CONFIG_FILE: "/dev/null",
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
      AWS_EC2_METADATA_DISABLED: "true",
    },
    secrets: () => secrets.all().map(shown),
    fault: (fault) => faults.add(fault),
    storm: (storm) => faults.storm(storm),
    clearFaults: () => faults.clear(),
    calls: (operation) => calls.filter((call) => operation === undefined || call.operation === operation),
    forgetCalls() {
      calls = [];
    },
    passDays(days) {
      passed += days * DAY_MS;
    },
    finishDeletions: () => secrets.finishDeletions(),
    async close() {
      const closed = new Promise((settle) => server.close(settle));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** What a fault does before the operation; true when that was all there is to be. */
async function before(fault: Fault, response: ServerResponse): Promise<boolean> {
  const { kind, body = {}, message = "A fault on demand." } = fault;
  switch (kind) {
    case "delay":
      await (fault.until ?? new Promise((settle) => setTimeout(settle, fault.milliseconds ?? 50)));
      return false;
    case "cut_off":
      return false;
    case "hang":
      return true;
    case "reset":
      response.destroy();
      return true;
    case "html":
      response.writeHead(fault.status ?? 503, { "content-type": "text/html" }).end(HTML);
      return true;
    case "status":
      send(response, fault.status ?? 500, { ...body });
      return true;
    case "throttle":
      send(response, 400, { __type: "ThrottlingException", Message: "Rate exceeded" });
      return true;
    case "error": {
      const name = fault.errorName ?? "InternalServiceError";
      send(response, fault.status ?? statusOf(name), { __type: name, Message: message, ...body });
      return true;
    }
  }
}

const statusOf = (name: string): number => (name.startsWith("Internal") ? 500 : 400);

function send(response: ServerResponse, status: number, body: Readonly<Record<string, unknown>>): void {
  response.writeHead(status, { "content-type": CONTENT_TYPE, "x-amzn-requestid": randomUUID() });
  response.end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > BODY_BYTES_MAX) request.destroy();
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

function parse(body: Buffer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body.toString());
    if (typeof value === "object" && value !== null) return value as Readonly<Record<string, unknown>>;
  } catch {
    // As below.
  }
  throw new AwsError("SerializationException", "The body is no JSON object.");
}

function shown(secret: Secret): FakeSecret {
  const { name, region, arn, description, kmsKeyId, tags, goesAt } = secret;
  const versions = [...secret.versions.values()].map(({ id, stages, text, binary }) => ({
    id,
    stages: [...stages].toSorted(),
    text,
    binary,
  }));
  const plain = { tags: Object.fromEntries(tags), deleting: goesAt !== null, kms_key_id: kmsKeyId };
  return { name, region, arn, description, versions, ...plain };
}
