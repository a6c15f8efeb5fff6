// Forged access tokens, over real HTTP: each is refused like any bad token. Most are signed with the broker's own key,
// as somebody would who has it or who finds two parsers that disagree; so that what refuses them is the rule named.
import {
  type KeyObject,
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  sign as signBytes,
} from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SigningKey } from "../../src/auth/signing-keys.ts";
import { type TestBroker, type World, client, furnish, startBroker } from "../harness/broker.ts";
import { NOBODY } from "./rights-kit.ts";
import {
  accessOf,
  base64url,
  nowSeconds,
  partsOf,
  rawJwt,
  signingKeyOf,
  withCredentials,
} from "./sign-in-kit.ts";

let broker: TestBroker;
let world: World;
let ours: SigningKey;
let good: string;

beforeAll(async () => {
  broker = await startBroker({ environment: { COFFER_TRUSTED_PROXIES: "127.0.0.1" } });
  world = await furnish(broker);
  ours = await signingKeyOf(broker);
  good = await accessOf(withCredentials(broker, world.writer.id, world.writer.api.token));
});
afterAll(() => broker.close());

type Members = Readonly<Record<string, unknown>>;
const stranger = generateKeyPairSync("ed25519");
const curve = generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwkOf = (key: KeyObject) => key.export({ format: "jwk" });

const header = (more: Members = {}): string =>
  JSON.stringify({ alg: "EdDSA", typ: "at+jwt", kid: ours.id, ...more });
/** Claims as we write them, anew at each call; `undefined` takes one away. */
const claims = (more: Members = {}): string =>
  JSON.stringify({ ...partsOf(good).payload, iat: nowSeconds(), exp: nowSeconds() + 600, ...more });
const signed = (head: string, body: string, key: KeyObject = ours.privateKey): string =>
  rawJwt(key, head, body);
const inputOf = (head = header(), body = claims()): string => `${base64url(head)}.${base64url(body)}`;
const halves = (jwt: string): string => jwt.slice(0, jwt.lastIndexOf("."));
const hmac = (secret: string | Buffer, hash = "sha256"): string => {
  const input = inputOf(header({ alg: hash === "sha256" ? "HS256" : "HS512" }));
  return `${input}.${base64url(createHmac(hash, secret).update(input).digest())}`;
};
const publicKey = (): KeyObject => createPublicKey(ours.privateKey);

test("what we sign ourselves, in our own form, is taken: the rest is refused for what its name says", async () => {
  expect((await broker.as(signed(header(), claims())).get("/auth/me")).status).toBe(200);
  expect(header()).toBe(partsOf(good).header);
  expect(Object.keys(JSON.parse(claims()))).toEqual(Object.keys(partsOf(good).payload));
});

const FORGERIES: Readonly<Record<string, () => string>> = {
  "alg none, without a signature": () => `${inputOf(header({ alg: "none" }))}.`,
  "alg None": () => `${inputOf(header({ alg: "None" }))}.`,
  "alg NONE, with a signature of ours": () => signed(header({ alg: "NONE" }), claims()),
  "alg nOnE": () => `${inputOf(header({ alg: "nOnE" }))}.${partsOf(good).signature}`,
  "alg missing": () => signed(header({ alg: undefined }), claims()),
  "alg null": () => signed(header({ alg: null }), claims()),
  "alg a list": () => signed(header({ alg: ["EdDSA", "none"] }), claims()),
  "HMAC with the public key as PEM": () => hmac(publicKey().export({ format: "pem", type: "spki" })),
  "HMAC with the public key's bytes": () => hmac(Buffer.from(ours.publicJwk["x"] ?? "", "base64url")),
  "HMAC with the public key as DER": () => hmac(publicKey().export({ format: "der", type: "spki" })),
  "HMAC with the public key's JWK": () => hmac(JSON.stringify(ours.publicJwk), "sha512"),
  "HMAC with nothing": () => hmac(""),
  "a stranger's key under our kid": () => signed(header(), claims(), stranger.privateKey),
  "an embedded jwk": () => signed(header({ jwk: jwkOf(stranger.publicKey) }), claims(), stranger.privateKey),
  "an embedded jwk in place of the kid": () =>
    signed(header({ kid: undefined, jwk: jwkOf(stranger.publicKey) }), claims(), stranger.privateKey),
  "an embedded jwk of our own key": () => signed(header({ jwk: ours.publicJwk }), claims()),
  jku: () => signed(header({ jku: "http://127.0.0.1:1/jwks" }), claims()),
  x5u: () => signed(header({ x5u: "http://127.0.0.1:1/cert" }), claims()),
  x5c: () => signed(header({ x5c: ["MIIB"] }), claims()),
  crit: () => signed(header({ crit: ["b64"], b64: false }), claims()),
  zip: () => signed(header({ zip: "DEF" }), claims()),
  "a kid that climbs": () => signed(header({ kid: "../../../../dev/null" }), claims()),
  "a kid that injects": () => signed(header({ kid: "' OR 1=1 --" }), claims()),
  "a kid of a prototype's": () => signed(header({ kid: "__proto__" }), claims()),
  "a kid that is unknown": () => signed(header({ kid: NOBODY }), claims(), stranger.privateKey),
  "a kid in upper case": () => signed(header({ kid: ours.id.toUpperCase() }), claims()),
  "a kid with a blank": () => signed(header({ kid: `${ours.id} ` }), claims()),
  "a kid that is a list": () => signed(header({ kid: [ours.id] }), claims()),
  "no kid": () => signed(header({ kid: undefined }), claims()),
  "an empty header": () => signed("{}", claims()),
  "a header in another order": () =>
    signed(JSON.stringify({ typ: "at+jwt", alg: "EdDSA", kid: ours.id }), claims()),
  "a header with a blank": () => signed(header().replace(":", ": "), claims()),
  "the signature stripped": () => `${halves(good)}.`,
  "the signature and its dot stripped": () => halves(good),
  "the signature of another token": () => `${halves(signed(header(), claims()))}.${partsOf(good).signature}`,
  "a signature of zeros": () => `${halves(good)}.${base64url(Buffer.alloc(64))}`,
  "a signature with one bit turned": () => {
    const bytes = Buffer.from(partsOf(good).signature, "base64url");
    bytes[10]! ^= 1;
    return `${halves(good)}.${base64url(bytes)}`;
  },
  "a signature padded with =": () => `${good}==`,
  "a signature with its unused bits set": () => `${good.slice(0, -1)}${neighbour(good.at(-1) ?? "")}`,
  "one more part": () => `${good}.${partsOf(good).signature}`,
  "five parts, as if encrypted": () => `${inputOf()}.${inputOf()}.x`,
  "claims changed after signing": () =>
    `${inputOf(header(), claims({ sub: world.owner.id }))}.${partsOf(good).signature}`,
  "ES256 all zeros": () => `${inputOf(header({ alg: "ES256" }))}.${base64url(Buffer.alloc(64))}`,
  "ES256 with our key": () => signed(header({ alg: "ES256" }), claims()),
  "ES256 of a stranger under our kid": () => {
    const input = inputOf(header({ alg: "ES256" }));
    const key = { key: curve.privateKey, dsaEncoding: "ieee-p1363" } as const;
    return `${input}.${base64url(signBytes("sha256", Buffer.from(input), key))}`;
  },
  "Ed25519, the algorithm's newer name": () => signed(header({ alg: "Ed25519" }), claims()),
  "typ JWT": () => signed(header({ typ: "JWT" }), claims()),
  "typ in upper case": () => signed(header({ typ: "AT+JWT" }), claims()),
  "typ with application/": () => signed(header({ typ: "application/at+jwt" }), claims()),
  "no typ": () => signed(header({ typ: undefined }), claims()),
  "another audience": () => signed(header(), claims({ aud: "https://other.test" })),
  "a list of audiences, ours among them": () => signed(header(), claims({ aud: ["coffer"] })),
  "no audience": () => signed(header(), claims({ aud: undefined })),
  "another issuer": () => signed(header(), claims({ iss: "coffer2" })),
  "an issuer with a slash more": () => signed(header(), claims({ iss: "coffer/" })),
  "no issuer": () => signed(header(), claims({ iss: undefined })),
  "an issue two minutes ahead": () =>
    signed(header(), claims({ iat: nowSeconds() + 120, exp: nowSeconds() + 300 })),
  "an expiry in the far future": () => signed(header(), claims({ exp: nowSeconds() + 10 * 365 * 86_400 })),
  "a life of 15 minutes and a second": () =>
    signed(header(), claims({ iat: nowSeconds() - 1, exp: nowSeconds() + 900 })),
  "an expiry beyond all numbers": () => signed(header(), claims().replace(/"exp":\d+/, '"exp":1e999')),
  "an expiry that is over": () => signed(header(), claims({ iat: nowSeconds() - 60, exp: nowSeconds() - 1 })),
  "an expiry before the issue": () =>
    signed(header(), claims({ iat: nowSeconds() + 50, exp: nowSeconds() + 40 })),
  "negative times": () => signed(header(), claims({ iat: -900, exp: -1 })),
  "a negative issue": () => signed(header(), claims({ iat: -1 })),
  "fractional times": () => signed(header(), claims({ iat: nowSeconds() - 0.5, exp: nowSeconds() + 60.5 })),
  "times as text": () => signed(header(), claims({ exp: String(nowSeconds() + 60) })),
  "times in another notation": () => signed(header(), claims().replace(/"iat":(\d+)/, '"iat":$1.0')),
  "no expiry": () => signed(header(), claims({ exp: undefined })),
  "an expiry of null": () => signed(header(), claims({ exp: null })),
  "no issue": () => signed(header(), claims({ iat: undefined })),
  "a time that it is not good before": () => signed(header(), claims({ nbf: nowSeconds() + 300 })),
  "more than 8 KiB, of good scopes": () => {
    const scopes = Array.from({ length: 150 }, (_, n) => `list:project/${world.project.id}/a/b/${n}`);
    return signed(header(), claims({ scope: scopes.join(" ") }));
  },
  "a sub that is a number": () => signed(header(), claims({ sub: 1 })),
  "a sub that is a list": () => signed(header(), claims({ sub: [world.writer.id] })),
  "a sub that is null": () => signed(header(), claims({ sub: null })),
  "a sub that is an object": () => signed(header(), claims({ sub: { id: world.writer.id } })),
  "a sub that is no id": () => signed(header(), claims({ sub: "admin" })),
  "a sub in upper case": () => signed(header(), claims({ sub: world.writer.id.toUpperCase() })),
  "no sub": () => signed(header(), claims({ sub: undefined })),
  "a sub twice": () => signed(header(), claims().replace('"sub"', `"sub":"${world.owner.id}","sub"`)),
  "an exp twice": () => signed(header(), claims().replace("{", '{"exp":1,')),
  "an alg twice": () => signed(header().replace("{", '{"alg":"none",'), claims()),
  "a name written with an escape": () => signed(header(), claims().replace('"sub"', String.raw`"su\u0062"`)),
  "claims with a blank": () => signed(header(), `${claims()} `),
  "claims with a byte order mark": () => signed(header(), `\ufeff${claims()}`),
  "claims that are a list": () => signed(header(), `[${claims()}]`),
  "claims that are no JSON": () => signed(header(), "eyJ"),
  "a claim more": () => signed(header(), claims({ admin: true })),
  "a claim named __proto__": () => signed(header(), claims().replace("{", '{"__proto__":{"a":1},')),
  "unicode look-alikes in the header": () => signed(header({ alg: "EdDS\u0410" }), claims()),
  "unicode look-alikes in the claims": () => signed(header(), claims({ iss: "c\u043effer" })),
  "unicode look-alikes in a name": () => signed(header(), claims().replace('"sub"', '"\u0455ub"')),
  "full-width digits in the sub": () =>
    signed(header(), claims({ sub: world.writer.id.replaceAll("0", "\uff10") })),
  "a scope that is a list": () => signed(header(), claims({ scope: ["list"] })),
  "a scope that is none": () => signed(header(), claims({ scope: "*" })),
  "no scope": () => signed(header(), claims({ scope: undefined })),
  "an API token and an identity provider": () =>
    signed(header(), claims({ provider: { id: NOBODY, revision: 1 } })),
  "an identity provider that is unknown": () =>
    signed(header(), reordered({ token_id: undefined, provider: { id: NOBODY, revision: 1 } })),
  "an identity provider without a revision": () =>
    signed(header(), reordered({ token_id: undefined, provider: { id: NOBODY } })),
  "an API token that is unknown": () => signed(header(), claims({ token_id: NOBODY })),
  "the header alone": () => base64url(header()),
  "bytes of every kind": () => "eyJ.eyJ.%00",
};

/** With the scope last, as we write it. */
function reordered(more: Members): string {
  const { scope, ...rest } = JSON.parse(claims());
  return JSON.stringify({ ...rest, ...more, scope });
}

/** Another letter for the same bytes. */
function neighbour(letter: string): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return letters[letters.indexOf(letter) ^ 1] ?? "";
}

describe("a forged access token is 401:", () => {
  let made = 0;
  test.each(Object.entries(FORGERIES))("%s", async (_name, forge) => {
    made += 1;
    // Each from an address of its own, since refused ones are limited to a hundred a minute.
    const forwarded = { "x-forwarded-for": `192.0.2.${made}` };
    const { status, body, headers } = await client(broker.url, forge()).get("/auth/me", {
      headers: forwarded,
    });
    expect([status, body.code]).toEqual([401, "unauthenticated"]);
    expect(headers.get("www-authenticate")).toBe('Bearer error="invalid_token"');
    expect(Object.keys(body)).toEqual(["type", "title", "status", "detail", "code", "request_id"]);
  });
});

test("none of them left the good one worse off, nor is there any piece of one in the log", async () => {
  expect((await broker.as(good).get("/auth/me")).status).toBe(200);
  expect(broker.log()).not.toContain(partsOf(good).signature);
  expect(broker.log()).not.toContain("eyJ");
});
