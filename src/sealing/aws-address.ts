// Where a secret lies at AWS: a name or an ARN, and a region. What is judged here is judged before anything is sent: a
// region is part of a host's name, and an ARN must not lead to another region than the one that is said.
import type { SecretAddress } from "../domain/manager-ports.ts";

export type AwsAddress = Extract<SecretAddress, { readonly secret_id: string }>;

/** `secretsmanager-arn` of the service authorization reference; the suffix of six is what makes it whole. */
const ARN = /^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:[A-Za-z0-9/_+=.@!-]+$/;
const WHOLE = /-[A-Za-z0-9]{6}$/;
const REGION = /^[a-z]{2,6}(-[a-z]{2,12}){1,3}-\d{1,2}$/;

/** What is wrong with an address, worded for whoever gave it; null when it can be asked for. */
export function addressFlaw(address: SecretAddress, ownRegion: string | null): string | null {
  if (!("secret_id" in address)) return "This is no address of AWS Secrets Manager.";
  const { secret_id, region } = address;
  // The operator's own may be that of an emulator.
  if (region !== ownRegion && !REGION.test(region)) return "The region is none of AWS's.";
  if (!secret_id.startsWith("arn:")) return null;
  const arn = ARN.exec(secret_id);
  if (arn === null) return "The ARN is not one of a secret.";
  return arn[1] === region ? null : "The region is not the one in the ARN.";
}

/** An ARN with its suffix, which names one secret for ever. */
export const isWholeArn = (secretId: string): boolean => ARN.test(secretId) && WHOLE.test(secretId);

/**
 * True when the name could be one of the broker's own. A name has no colon, so whichever part of an ARN, or of what
 * might pass for one, holds the name: none may begin with our prefix.
 */
export function isOwnName(secretId: string, prefix: string): boolean {
  return secretId.split(":").some((part) => part.trimStart().startsWith(`${prefix}/`));
}

/** True when what AWS answered is what was asked for by this id. */
export function isNamed(
  secretId: string,
  { ARN: arn, Name: name }: { ARN?: string | undefined; Name?: string | undefined },
): boolean {
  if (secretId === name || secretId === arn) return true;
  return !isWholeArn(secretId) && secretId === arn?.slice(0, -"-XXXXXX".length);
}
