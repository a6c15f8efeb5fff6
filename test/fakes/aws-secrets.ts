// The secrets that the fake holds, by region, with the rules that AWS has for names, ARNs, labels and deletion.
import { randomInt } from "node:crypto";
import { AwsError } from "./aws-error.ts";

export type Version = {
  readonly id: string;
  readonly text?: string | undefined;
  /** Base64. */
  readonly binary?: string | undefined;
  readonly stages: Set<string>;
  readonly createdAt: number;
};

export type Secret = {
  readonly region: string;
  readonly name: string;
  readonly arn: string;
  readonly description: string | undefined;
  readonly kmsKeyId: string | undefined;
  readonly tags: Map<string, string>;
  readonly versions: Map<string, Version>;
  readonly createdAt: number;
  /** When it goes for ever; null while it is not being deleted. */
  goesAt: number | null;
};

export type SecretRules = {
  readonly account: string;
  /** AWS may drop versions without a label, and keeps them for a while: both can be had. */
  readonly unlabelled: "vanish" | "stay";
  /** A forced deletion holds the name until `finishDeletions`. */
  readonly slowDeletion: boolean;
  readonly now: () => number;
};

const LABELS_MAX = 20;
const VERSIONS_MAX = 100;
const NAME = /^[A-Za-z0-9/_+=.@-]{1,512}$/;
const ARN = /^arn:aws:secretsmanager:([a-z0-9-]+):(\d{12}):secret:(.+)$/;
const SUFFIX = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

export type Secrets = ReturnType<typeof createSecrets>;

export function createSecrets(rules: SecretRules) {
  let all: Secret[] = [];

  /** Those whose window has passed are gone. */
  function sweep(): void {
    all = all.filter(({ goesAt }) => goesAt === null || goesAt > rules.now());
  }

  const named = (region: string, name: string): Secret | undefined => {
    sweep();
    return all.find((secret) => secret.region === region && secret.name === name);
  };

  /** By name, ARN, or an ARN without its suffix. */
  function find(region: string, secretId: string): Secret {
    sweep();
    const arn = ARN.exec(secretId);
    const mine = all.filter((secret) => secret.region === region);
    const found =
      arn === null
        ? mine.find(({ name }) => name === secretId)
        : (mine.find((secret) => secret.arn === secretId) ??
          mine.find((secret) => secret.arn.slice(0, -7) === secretId));
    if (found === undefined)
      throw new AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    return found;
  }

  return {
    find,
    named,
    all: (): readonly Secret[] => {
      sweep();
      return all;
    },

    /** One that is not being deleted. */
    live(region: string, secretId: string): Secret {
      const secret = find(region, secretId);
      if (secret.goesAt !== null)
        throw new AwsError(
          "InvalidRequestException",
          "You can't perform this operation on the secret because it was marked for deletion.",
        );
      return secret;
    },

    add(region: string, name: string, more: Pick<Secret, "description" | "kmsKeyId" | "tags">): Secret {
      if (!NAME.test(name)) throw new AwsError("ValidationException", "Invalid name.");
      const suffix = Array.from({ length: 6 }, () => SUFFIX[randomInt(SUFFIX.length)]).join("");
      const arn = `arn:aws:secretsmanager:${region}:${rules.account}:secret:${name}-${suffix}`;
      const state = { versions: new Map<string, Version>(), createdAt: rules.now(), goesAt: null };
      const secret: Secret = { region, name, arn, ...more, ...state };
      all.push(secret);
      return secret;
    },

    remove(secret: Secret): void {
      if (rules.slowDeletion) secret.goesAt = Number.MAX_SAFE_INTEGER;
      else all = all.filter((each) => each !== secret);
    },

    finishDeletions(): void {
      all = all.filter(({ goesAt }) => goesAt !== Number.MAX_SAFE_INTEGER);
    },

    /** Gives labels to a version, new or known, taking them from whichever has them: all of it or nothing. */
    label(secret: Secret, version: Version, stages: readonly string[]): void {
      const isNew = !secret.versions.has(version.id);
      if (isNew && secret.versions.size >= VERSIONS_MAX)
        throw new AwsError("LimitExceededException", "You've exceeded the quota for versions of a secret.");
      const labels = new Set([...labelsOf(secret), ...stages]);
      if (stages.includes("AWSCURRENT") && labelsOf(secret).includes("AWSCURRENT")) labels.add("AWSPREVIOUS");
      if (labels.size > LABELS_MAX)
        throw new AwsError("LimitExceededException", "A secret can have at most 20 staging labels.");
      secret.versions.set(version.id, version);
      for (const stage of stages) move(secret, stage, version);
    },

    unlabel(secret: Secret, stage: string): void {
      for (const version of secret.versions.values()) version.stages.delete(stage);
    },

    /** What AWS may do at any time, here at once. */
    dropUnlabelled(secret: Secret): void {
      if (rules.unlabelled === "stay") return;
      for (const version of secret.versions.values())
        if (version.stages.size === 0) secret.versions.delete(version.id);
    },
  };
}

/** AWSPREVIOUS follows AWSCURRENT. */
function move(secret: Secret, stage: string, to: Version): void {
  const from = holderOf(secret, stage);
  if (from === to) return;
  from?.stages.delete(stage);
  to.stages.add(stage);
  if (stage === "AWSCURRENT" && from !== undefined) move(secret, "AWSPREVIOUS", from);
}

const labelsOf = ({ versions }: Secret): readonly string[] =>
  [...versions.values()].flatMap(({ stages }) => [...stages]);

export function holderOf(secret: Secret, stage: string): Version | undefined {
  return [...secret.versions.values()].find(({ stages }) => stages.has(stage));
}
