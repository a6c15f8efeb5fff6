// AWS Signature Version 4, as a server checks it (docs: "Signature Version 4 signing process"): made from the bytes
// that arrived, so that a request which was altered, or signed with another key, is refused as AWS refuses it.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { AwsError } from "./aws-error.ts";

export type KeyPair = { readonly accessKeyId: string; readonly secretAccessKey: string };

const SERVICE = "secretsmanager";
const SKEW_MS = 5 * 60_000;
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/,\s]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})$/;

type Signed = { readonly method: string; readonly url: string; readonly headers: IncomingHttpHeaders };

/**
 * The region that the request is signed for.
 * @throws AwsError as AWS has it: no signature, an unknown key, a wrong signature, a stale one
 */
export function verifySignature(request: Signed, body: Buffer, keys: KeyPair): string {
  const header = request.headers.authorization;
  if (header === undefined)
    throw new AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 400);
  const parts = AUTHORIZATION.exec(header);
  if (parts === null)
    throw new AwsError("IncompleteSignatureException", "The authorization header is malformed.", 400);
  const [, keyId = "", day = "", region = "", service = "", names = "", signature = ""] = parts;
  if (keyId !== keys.accessKeyId)
    throw new AwsError(
      "UnrecognizedClientException",
      "The security token included in the request is invalid.",
      403,
    );
  const at = String(request.headers["x-amz-date"] ?? "");
  const moment = Date.parse(at.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (!(Math.abs(Date.now() - moment) < SKEW_MS))
    throw new AwsError("InvalidSignatureException", "Signature expired.", 403);
  const isWhole = ["host", "x-amz-date"].every((name) => names.split(";").includes(name));
  const scope = `${day}/${region}/${service}/aws4_request`;
  const toSign = ["AWS4-HMAC-SHA256", at, scope, sha256(canonical(request, names, body))].join("\n");
  const key = [day, region, SERVICE, "aws4_request"].reduce<Buffer | string>(
    (secret, step) => hmac(secret, step),
    `AWS4${keys.secretAccessKey}`,
  );
  const expected = hmac(key, toSign);
  const given = Buffer.from(signature, "hex");
  if (!isWhole || service !== SERVICE || !at.startsWith(day) || !timingSafeEqual(expected, given))
    throw new AwsError(
      "InvalidSignatureException",
      "The request signature we calculated does not match the signature you provided.",
      403,
    );
  return region;
}

function canonical({ method, url, headers }: Signed, names: string, body: Buffer): string {
  const { pathname, searchParams } = new URL(url, "http://fake");
  const encode = (text: string): string =>
    encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).toSorted();
  const lines = names.split(";").map((name) => `${name}:${valueOf(headers[name])}\n`);
  return [method, pathname, query.join("&"), lines.join(""), names, sha256(body)].join("\n");
}

const valueOf = (value: string | readonly string[] | undefined): string =>
  (typeof value === "string" ? value : (value ?? []).join(",")).trim().replaceAll(/ +/g, " ");
const sha256 = (data: string | Buffer): string => createHash("sha256").update(data).digest("hex");
const hmac = (key: Buffer | string, text: string): Buffer => createHmac("sha256", key).update(text).digest();
