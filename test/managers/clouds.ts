// Both clouds for a test of the whole broker: a fake, what a broker needs to use it, and what is in it, in one form.
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { type FakeAws, startFakeAws } from "../fakes/aws.ts";
import { type FakeGcp, plainClient, startFakeGcp } from "../fakes/gcp.ts";

export type Held = {
  /** As the manager names it. */
  readonly name: string;
  readonly tags: Readonly<Record<string, string>>;
  /** The values of versions that are readable, oldest first, by the manager's own ids. */
  readonly values: ReadonlyMap<string, string>;
};

export type Cloud = {
  readonly name: "aws" | "gcp";
  readonly environment: Readonly<Record<string, string>>;
  readonly fake: Pick<FakeAws, "fault" | "storm" | "clearFaults" | "forgetCalls"> & {
    calls(operation?: string): readonly { readonly operation: string }[];
  };
  /** Operations by what they do. */
  readonly operations: Readonly<Record<"create" | "add" | "read" | "drop", string>>;
  held(): readonly Held[];
  /** What the plain SDK, with nothing of ours, gives for a location's newest version. */
  plain(location: Readonly<Record<string, string>>): Promise<string>;
  close(): Promise<void>;
};

export async function startAws(): Promise<Cloud> {
  const fake = await startFakeAws();
  // The SDK looks in its own process's environment: for a broker that is started in this one.
  Object.assign(process.env, fake.environment);
  return {
    name: "aws",
    environment: { COFFER_MANAGER: "aws", ...fake.environment },
    fake,
    operations: {
      create: "CreateSecret",
      add: "PutSecretValue",
      read: "GetSecretValue",
      drop: "DeleteSecret",
    },
    held: () =>
      fake
        .secrets()
        .filter(({ deleting }) => !deleting)
        .map(({ name, tags, versions }) => ({
          name,
          tags,
          values: new Map(
            versions.filter(({ stages }) => stages.length > 0).map(({ id, text = "" }) => [id, text]),
          ),
        })),
    async plain({ secret_id = "", region = "" }) {
      const client = new SecretsManagerClient({
        endpoint: fake.url,
        region,
        credentials: {
          accessKeyId: fake.environment["AWS_ACCESS_KEY_ID"] ?? "",
          secretAccessKey: fake.environment["AWS_SECRET_ACCESS_KEY"] ?? "",
        },
      });
      const { SecretString = "" } = await client.send(new GetSecretValueCommand({ SecretId: secret_id }));
      client.destroy();
      return SecretString;
    },
    async close() {
      // Unless another has come since.
      for (const [name, value] of Object.entries(fake.environment))
        if (process.env[name] === value) delete process.env[name];
      await fake.close();
    },
  };
}

export async function startGcp(): Promise<Cloud> {
  const fake: FakeGcp = await startFakeGcp();
  return {
    name: "gcp",
    environment: { COFFER_MANAGER: "gcp", COFFER_GCP_PROJECT: "acme-training", ...fake.environment },
    fake,
    operations: {
      create: "CreateSecret",
      add: "AddSecretVersion",
      read: "AccessSecretVersion",
      drop: "DeleteSecret",
    },
    held: () =>
      fake.secrets().map(({ name, annotations, versions }) => ({
        name,
        tags: annotations,
        values: new Map(
          versions.flatMap(({ id, state, text }) =>
            state === "ENABLED" && text !== undefined ? [[id, text] as const] : [],
          ),
        ),
      })),
    async plain({ resource = "" }) {
      const client = plainClient(fake.endpoint);
      const [version] = await client.accessSecretVersion({ name: `${resource}/versions/latest` });
      await client.close();
      return Buffer.from(version.payload?.data ?? "").toString();
    },
    close: () => fake.close(),
  };
}

export const CLOUDS = { aws: startAws, gcp: startGcp };

/** `<name>#<version id>` of all that is readable there, sorted. */
export function idsIn(cloud: Cloud): string[] {
  return cloud
    .held()
    .flatMap(({ name, values }) => [...values.keys()].map((id) => `${name}#${id}`))
    .toSorted();
}
