// AWS Secrets Manager as the broker uses it. It finds its credentials by the SDK's standard chain and its endpoint, where
// that is another, by the SDK's own AWS_ENDPOINT_URL_SECRETS_MANAGER. It never changes a secret outside its prefix: only
// addresses that the broker made reach `ensure`, `write` and `reconcile`. No failure quotes AWS, and none is a 401 or 403
// to our caller: it is the broker that was refused.
import { BrokerError, notFound } from "../domain/errors.ts";
import type { CloudManager, SecretAddress } from "../domain/manager-ports.ts";
import { addressFlaw, isOwnName, isWholeArn } from "./aws-address.ts";
import { LABELS_MAX } from "./aws-labels.ts";
import { createAwsReader, settled } from "./aws-read.ts";
import { type AwsRegionsOptions, openAwsRegions } from "./aws-regions.ts";
import { createAwsVersions } from "./aws-versions.ts";
import { ManagerCallError, failureError, failureOf } from "./manager-failures.ts";

export type AwsManagerOptions = AwsRegionsOptions & {
  /** What the names of our own secrets begin with, before a slash. */
  readonly prefix: string;
  /** Which key of KMS new secrets are sealed under; null: the account's `aws/secretsmanager`. */
  readonly kmsKeyId: string | null;
};

const NO_REGION = "AWS has no region: set COFFER_AWS_REGION, or AWS_REGION for the whole chain.";
const NO_CREDENTIALS =
  "AWS gives no credentials: the SDK's standard chain (AWS_ACCESS_KEY_ID, a profile, a role of the container, pod or machine) has none.";
const BAD_CREDENTIALS =
  "AWS does not take the broker's credentials: they are wrong, expired or of another partition, or this machine's clock is off.";
const NO_PERMISSION =
  "AWS does not permit the broker to describe its secrets: its role needs the IAM policy in docs/managers.md, for the prefix that is configured.";
const NO_SERVICE =
  "What answers as AWS Secrets Manager does not do what it is asked: look at the region and at AWS_ENDPOINT_URL_SECRETS_MANAGER.";

/** Makes no call yet, so it does not fail: what is missing is what `check` says. */
export async function createAwsManager(options: AwsManagerOptions): Promise<CloudManager> {
  const { prefix, kmsKeyId, now } = options;
  const regions = await openAwsRegions(options);
  const { read, single } = createAwsReader(regions, now);
  const versions = createAwsVersions(regions, kmsKeyId);

  function addressOf(id: string): SecretAddress {
    if (regions.own === null) throw new BrokerError("manager_failed", NO_REGION);
    return { secret_id: `${prefix}/${id}`, region: regions.own };
  }

  async function describe(address: SecretAddress) {
    const { region, secretId } = regions.at(address);
    const input = { SecretId: secretId };
    return region.call("DescribeSecret", "read", regions.budget(), (client, options) =>
      client.describeSecret(input, options),
    );
  }

  return {
    name: "aws",
    versionsMax: LABELS_MAX,
    newestIsLast: false,
    addressOf,
    read,
    write: versions.write,
    reconcile: versions.reconcile,

    isOwn: (address) => "secret_id" in address && isOwnName(address.secret_id, prefix),

    async check() {
      try {
        await describe(addressOf("coffer-check"));
      } catch (error) {
        // There need be no such secret: the answer proves all there is to prove.
        if (failureOf(error) !== "absent") throw advise(error);
      }
    },

    ensure: (id, address, text, tags) =>
      settled(async () => {
        const { region, secretId, budget } = await versions.create(address, id, text, tags);
        // Read back also where it is our own: what is sealed under a key that cannot be had again is lost.
        return single(region, secretId, id, budget);
      }),

    async canonical(address) {
      const flaw = addressFlaw(address, regions.own);
      if (flaw !== null || !("secret_id" in address)) throw new BrokerError("invalid_value", flaw ?? "");
      const { secret_id, region } = address;
      if (isWholeArn(secret_id)) return { secret_id, region };
      try {
        const { ARN: arn } = await describe(address);
        if (arn !== undefined && isWholeArn(arn)) return { secret_id: arn, region };
        throw failureError("DescribeSecret", "read", { failure: "rejected", name: "NoArn" });
      } catch (error) {
        if (!["absent", "denied", "rejected"].includes(failureOf(error) ?? "")) throw error;
        throw notFound("AWS has no such secret in that region, or the broker may not describe it.");
      }
    },

    async close() {
      regions.close();
    },
  };
}

/** The failure of a check, worded for the operator. */
function advise(error: unknown): unknown {
  if (!(error instanceof BrokerError && error.cause instanceof ManagerCallError)) return error;
  const { failure, facts } = error.cause;
  if (failure === "rejected") return new BrokerError("manager_failed", NO_SERVICE, {}, error.cause);
  if (failure !== "denied") return error;
  return new BrokerError("manager_failed", denialText(facts.name), {}, error.cause);
}

function denialText(name: string): string {
  if (name.startsWith("AccessDenied")) return NO_PERMISSION;
  return name.includes("Provider") ? NO_CREDENTIALS : BAD_CREDENTIALS;
}
