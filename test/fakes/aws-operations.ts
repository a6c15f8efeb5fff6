// What each operation does, as the API reference has it: parameters, effects, errors.
import { AwsError } from "./aws-error.ts";
import { type Secret, type Secrets, type Version, holderOf } from "./aws-secrets.ts";

type Input = Readonly<Record<string, unknown>>;
type Operation = (region: string, input: Input) => Record<string, unknown>;

const BYTES_MAX = 65_536;
const DAY_MS = 86_400_000;
const BATCH_MAX = 20;
const TAG = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u;

export function createOperations(secrets: Secrets, now: () => number): ReadonlyMap<string, Operation> {
  /** The version that a request with a token asks for; null when it is there with this very value. */
  function newVersion(input: Input, known: Secret | undefined): Version | null {
    const id = tokenOf(input);
    const text = optional(input, "SecretString");
    const binary = optional(input, "SecretBinary");
    if ((text === undefined) === (binary === undefined))
      throw new AwsError(
        "InvalidParameterException",
        "You must provide either SecretString or SecretBinary.",
      );
    const bytes = text === undefined ? Buffer.from(binary ?? "", "base64") : Buffer.from(text);
    if (bytes.length > BYTES_MAX)
      throw new AwsError(
        "ValidationException",
        "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to 65536",
      );
    const same = known?.versions.get(id);
    if (same === undefined) return { id, text, binary, stages: new Set(), createdAt: now() };
    if (same.text === text && same.binary === binary) return null;
    throw new AwsError(
      "ResourceExistsException",
      `You can't use ClientRequestToken ${id} because that value is already in use for a version of this secret.`,
    );
  }

  function pick(secret: Secret, versionId: string | undefined, stage: string | undefined): Version {
    const label = stage ?? (versionId === undefined ? "AWSCURRENT" : undefined);
    const version = versionId === undefined ? holderOf(secret, label ?? "") : secret.versions.get(versionId);
    if (version === undefined)
      throw new AwsError(
        "ResourceNotFoundException",
        `Secrets Manager can't find the specified secret value for ${versionId === undefined ? `staging label: ${label}` : `VersionId: ${versionId}`}`,
      );
    if (label !== undefined && !version.stages.has(label))
      throw new AwsError(
        "InvalidRequestException",
        "You provided a VersionStage that is not associated to the provided VersionId.",
      );
    return version;
  }

  const operations: Readonly<Record<string, Operation>> = {
    CreateSecret(region, input) {
      const name = required(input, "Name");
      const known = secrets.named(region, name);
      if (known !== undefined && known.goesAt !== null)
        throw new AwsError(
          "InvalidRequestException",
          "You can't create this secret because a secret with this name is already scheduled for deletion.",
        );
      const tags = tagsOf(input);
      if (known !== undefined) {
        if (!known.versions.has(tokenOf(input)) || newVersion(input, known) !== null)
          throw new AwsError(
            "ResourceExistsException",
            `The operation failed because the secret ${name} already exists.`,
          );
        return { ...identity(known), VersionId: tokenOf(input) };
      }
      const version = newVersion(input, known);
      const description = optional(input, "Description");
      const secret = secrets.add(region, name, { description, kmsKeyId: optional(input, "KmsKeyId"), tags });
      if (version !== null) secrets.label(secret, version, ["AWSCURRENT"]);
      return { ...identity(secret), VersionId: version?.id };
    },

    PutSecretValue(region, input) {
      const secret = secrets.live(region, required(input, "SecretId"));
      const version = newVersion(input, secret);
      const stages = (input["VersionStages"] ?? ["AWSCURRENT"]) as readonly string[];
      if (version !== null) secrets.label(secret, version, stages);
      secrets.dropUnlabelled(secret);
      const now = version ?? secret.versions.get(tokenOf(input));
      return { ...identity(secret), VersionId: now?.id, VersionStages: [...(now?.stages ?? [])] };
    },

    GetSecretValue(region, input) {
      const secret = secrets.live(region, required(input, "SecretId"));
      return valueOf(secret, pick(secret, optional(input, "VersionId"), optional(input, "VersionStage")));
    },

    BatchGetSecretValue(region, input) {
      const ids = input["SecretIdList"] as readonly string[] | undefined;
      if (ids === undefined || ids.length === 0 || ids.length > BATCH_MAX)
        throw new AwsError("InvalidParameterException", "SecretIdList must have 1 to 20 items.");
      const values: unknown[] = [];
      const errors: unknown[] = [];
      for (const id of ids)
        try {
          const secret = secrets.live(region, id);
          values.push(valueOf(secret, pick(secret, undefined, undefined)));
        } catch (error) {
          if (!(error instanceof AwsError)) throw error;
          errors.push({ SecretId: id, ErrorCode: error.name, Message: error.message });
        }
      return { SecretValues: values, Errors: errors };
    },

    DescribeSecret(region, input) {
      const secret = secrets.find(region, required(input, "SecretId"));
      const labelled = [...secret.versions.values()].filter(({ stages }) => stages.size > 0);
      return {
        ...entry(secret),
        VersionIdsToStages: Object.fromEntries(labelled.map(({ id, stages }) => [id, [...stages]])),
      };
    },

    UpdateSecretVersionStage(region, input) {
      const secret = secrets.live(region, required(input, "SecretId"));
      const stage = required(input, "VersionStage");
      const from = optional(input, "RemoveFromVersionId");
      const to = optional(input, "MoveToVersionId");
      for (const id of [from, to]) if (id !== undefined) pick(secret, id, undefined);
      const holder = holderOf(secret, stage)?.id;
      if (from === undefined && to === undefined)
        throw new AwsError("InvalidParameterException", "You must name a version to move to or remove from.");
      // Strict: also a repeated move fails, since the label is no longer where it is to be taken from.
      if (from === undefined ? holder !== undefined && holder !== to : holder !== from)
        throw new AwsError(
          "InvalidParameterException",
          `The parameter RemoveFromVersionId can't be ${from ?? "empty"}. Staging label ${stage} is currently attached to version ${holder}, so you must explicitly reference that version in RemoveFromVersionId.`,
        );
      if (to === undefined && stage === "AWSCURRENT")
        throw new AwsError("InvalidParameterException", "You can't remove the staging label AWSCURRENT.");
      const target = to === undefined ? undefined : secret.versions.get(to);
      if (target === undefined) secrets.unlabel(secret, stage);
      else secrets.label(secret, target, [stage]);
      secrets.dropUnlabelled(secret);
      return identity(secret);
    },

    DeleteSecret(region, input) {
      const secretId = required(input, "SecretId");
      const isForced = input["ForceDeleteWithoutRecovery"] === true;
      const days = input["RecoveryWindowInDays"] as number | undefined;
      if (isForced && days !== undefined)
        throw new AwsError("InvalidParameterException", "A forced deletion has no recovery window.");
      if (days !== undefined && (days < 7 || days > 30))
        throw new AwsError("InvalidParameterException", "RecoveryWindowInDays must be 7 to 30.");
      if (isForced) {
        try {
          const secret = secrets.find(region, secretId);
          secrets.remove(secret);
          return { ...identity(secret), DeletionDate: now() / 1_000 };
        } catch (error) {
          // Silent about a secret that is not there, so that a repeated call is well.
          if (!(error instanceof AwsError)) throw error;
          return { Name: secretId, DeletionDate: now() / 1_000 };
        }
      }
      const secret = secrets.live(region, secretId);
      secret.goesAt = now() + (days ?? 30) * DAY_MS;
      return { ...identity(secret), DeletionDate: secret.goesAt / 1_000 };
    },

    RestoreSecret(region, input) {
      const secret = secrets.find(region, required(input, "SecretId"));
      secret.goesAt = null;
      return identity(secret);
    },

    ListSecrets(region, input) {
      const names = secrets.all().filter((secret) => secret.region === region && secret.goesAt === null);
      const { page, next } = pageOf(names, input);
      return { SecretList: page.map(entry), NextToken: next };
    },

    ListSecretVersionIds(region, input) {
      const secret = secrets.find(region, required(input, "SecretId"));
      const isAll = input["IncludeDeprecated"] === true;
      const versions = [...secret.versions.values()].filter(({ stages }) => isAll || stages.size > 0);
      const { page, next } = pageOf(versions, input);
      const rows = page.map(({ id, stages, createdAt }) => ({
        VersionId: id,
        VersionStages: [...stages],
        CreatedDate: createdAt / 1_000,
      }));
      return { ...identity(secret), Versions: rows, NextToken: next };
    },

    TagResource(region, input) {
      const secret = secrets.live(region, required(input, "SecretId"));
      for (const [key, value] of tagsOf(input)) secret.tags.set(key, value);
      return {};
    },
  };
  return new Map(Object.entries(operations));
}

const identity = ({ arn, name }: Secret) => ({ ARN: arn, Name: name });

function entry(secret: Secret): Record<string, unknown> {
  return {
    ...identity(secret),
    Description: secret.description,
    KmsKeyId: secret.kmsKeyId,
    Tags: [...secret.tags].map(([Key, Value]) => ({ Key, Value })),
    CreatedDate: secret.createdAt / 1_000,
    DeletedDate: secret.goesAt === null ? undefined : Date.now() / 1_000,
  };
}

function valueOf(secret: Secret, { id, text, binary, stages, createdAt }: Version): Record<string, unknown> {
  const value = { SecretString: text, SecretBinary: binary };
  return {
    ...identity(secret),
    VersionId: id,
    ...value,
    VersionStages: [...stages],
    CreatedDate: createdAt / 1_000,
  };
}

function required(input: Input, name: string): string {
  const value = input[name];
  if (typeof value !== "string" || value === "" || value.length > 2_048)
    throw new AwsError("ValidationException", `Value at '${name}' failed to satisfy constraint.`);
  return value;
}

function optional(input: Input, name: string): string | undefined {
  const value = input[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw new AwsError("SerializationException", `'${name}' is no text.`);
  const isId = name.endsWith("VersionId");
  if (isId && (value.length < 32 || value.length > 64))
    throw new AwsError("ValidationException", `Value at '${name}' must have length 32 to 64.`);
  return value;
}

function tokenOf(input: Input): string {
  const token = required(input, "ClientRequestToken");
  if (token.length < 32 || token.length > 64)
    throw new AwsError("ValidationException", "Value at 'clientRequestToken' must have length 32 to 64.");
  return token;
}

function tagsOf(input: Input): Map<string, string> {
  const tags = (input["Tags"] ?? []) as readonly { readonly Key: string; readonly Value: string }[];
  const isBad = ({ Key, Value }: (typeof tags)[number]): boolean =>
    Key.length === 0 || Key.length > 128 || Value.length > 256 || !TAG.test(Key) || !TAG.test(Value);
  if (tags.length > 50 || tags.some(isBad))
    throw new AwsError("InvalidParameterException", "A tag is not valid.");
  return new Map(tags.map(({ Key, Value }) => [Key, Value]));
}

function pageOf<Item>(items: readonly Item[], input: Input) {
  const start = Number(input["NextToken"] ?? 0);
  const size = Number(input["MaxResults"] ?? 100);
  const end = start + size;
  return { page: items.slice(start, end), next: end < items.length ? String(end) : undefined };
}
