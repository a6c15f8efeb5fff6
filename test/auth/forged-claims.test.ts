// Tokens that a provider's own key signed, and that are not to be believed: of another kind, for somebody else, at
// another time, about nobody, or with more than one reading.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  AUDIENCE,
  ISSUER,
  base64url,
  edKey,
  goodClaims,
  inline,
  nowSeconds,
  rawToken,
  rsaKey,
  signature,
  tokenBy,
  verifierWith,
} from "./foreign.ts";

const { verifier } = verifierWith();
const rsa = rsaKey();
const ed = edKey();
const provider = inline(rsa, ed);

const vouched = async (token: string): Promise<number> => (await verifier.verify([provider], token)).length;

const doubled = (text: string, more: string): string => text.replace(/\}$/, `,${more}}`);

const nested = (depth: number): string =>
  doubled(JSON.stringify(goodClaims()), `"a":${"[".repeat(depth)}${"]".repeat(depth)}`);

describe("a token signed well is nobody's all the same:", () => {
  test.each(["dpop+jwt", "logout+jwt", "secevent+jwt", "JOSE", "jwt ", "application/", "text/jwt", 1, null])(
    "typ %j",
    async (typ) => {
      expect(await vouched(tokenBy(rsa, {}, { typ }))).toBe(0);
    },
  );

  test.each([
    "https://else.example",
    `${AUDIENCE}/`,
    AUDIENCE.toUpperCase(),
    ` ${AUDIENCE}`,
    "https://cоffer.example",
    "",
    [],
    ["https://else.example"],
    [[AUDIENCE]],
    [AUDIENCE, 1],
    { 0: AUDIENCE },
    null,
    1,
    undefined,
  ])("audience %j", async (aud) => {
    expect(await vouched(tokenBy(rsa, { aud }))).toBe(0);
  });

  test.each([
    "https://else.example",
    `${ISSUER}/`,
    ISSUER.toUpperCase(),
    `${ISSUER}\u0000`,
    "https://іssuer.example",
    "https://issuer.example\u200b",
    "",
    [ISSUER],
    null,
    undefined,
  ])("issuer %j, look-alikes among them", async (iss) => {
    expect(await vouched(tokenBy(rsa, { iss }))).toBe(0);
  });

  test.each([
    ["over this second", () => ({ exp: nowSeconds() })],
    ["over", () => ({ exp: nowSeconds() - 1 })],
    ["without an end", () => ({ exp: undefined })],
    ["ending at a text", () => ({ exp: String(nowSeconds() + 300) })],
    ["ending at null", () => ({ exp: null })],
    ["ending at a fraction", () => ({ exp: nowSeconds() + 300.5 })],
    ["ending before all time", () => ({ exp: -1 })],
    ["ending in the far future", () => ({ exp: nowSeconds() + 401 * 86_400 })],
    ["ending at milliseconds", () => ({ exp: (nowSeconds() + 300) * 1_000 })],
    ["ending beyond what a date can be", () => ({ exp: Number.MAX_SAFE_INTEGER })],
    ["ending beyond what a number can be", () => ({ exp: 1e300 })],
    ["not yet begun", () => ({ nbf: nowSeconds() + 61 })],
    ["beginning at a text", () => ({ nbf: "0" })],
    ["beginning before all time", () => ({ nbf: -1 })],
    ["issued in the far future", () => ({ iat: nowSeconds() + 86_400 })],
    ["issued just beyond the leeway", () => ({ iat: nowSeconds() + 61 })],
    ["issued before all time", () => ({ iat: -1_700_000_000 })],
    ["issued at null", () => ({ iat: null })],
  ])("%s", async (_name, claims) => {
    expect(await vouched(tokenBy(rsa, claims()))).toBe(0);
  });

  test("ending at a number that JSON writes but a double cannot hold", async () => {
    const claims = JSON.stringify(goodClaims()).replace(/"exp":\d+/, '"exp":1e999');
    expect(await vouched(rawToken("RS256", rsa.privateKey, '{"alg":"RS256","kid":"rsa"}', claims))).toBe(0);
  });

  test.each([
    ["a number", 42],
    ["null", null],
    ["a list", ["repo:acme"]],
    ["an object", { toString: "repo:acme" }],
    ["a boolean", true],
    ["missing", undefined],
    ["empty", ""],
    ["longer than 512 characters", "x".repeat(513)],
    ["with a line break", "repo:acme\nadmin"],
    ["with a NUL", "repo:acme\u0000"],
    ["with half a surrogate pair", "repo:\ud800"],
  ])("a subject that is %s", async (_name, sub) => {
    expect(await vouched(tokenBy(rsa, { sub }))).toBe(0);
  });

  test.each([
    ["sub", '"sub":"repo:acme/other"'],
    ["sub, written with an escape", String.raw`"s\u0075b":"repo:acme/other"`],
    ["aud", `"aud":"${AUDIENCE}"`],
    ["exp", '"exp":9999999999'],
    ["a name of no meaning", '"x":1,"x":1'],
    ["a name within an object", '"kubernetes.io":{"namespace":"a","pod":{"name":"b"},"namespace":"c"}'],
    ["a name within a list", '"list":[1,{"a":[],"a":{}}]'],
    ["__proto__", '"__proto__":1,"__proto__":2'],
  ])("a claim named twice: %s", async (_name, more) => {
    const claims = doubled(JSON.stringify(goodClaims()), more);
    expect(await vouched(rawToken("RS256", rsa.privateKey, '{"alg":"RS256","kid":"rsa"}', claims))).toBe(0);
  });

  test.each([
    ["alg", '"alg":"RS256"'],
    ["kid", '"kid":"rsa"'],
  ])("a header member named twice: %s", async (_name, more) => {
    const head = doubled('{"alg":"RS256","kid":"rsa"}', more);
    expect(await vouched(rawToken("RS256", rsa.privateKey, head, JSON.stringify(goodClaims())))).toBe(0);
  });

  test("and yet names may come again in different objects, and be texts", async () => {
    const more = String.raw`"a":{"sub":1},"b":[{"sub":2},{"sub":"sub"}],"c":"\",\"sub\":\"","d":["sub","sub"]`;
    const claims = doubled(JSON.stringify(goodClaims()), more);
    expect(await vouched(rawToken("RS256", rsa.privateKey, '{"alg":"RS256","kid":"rsa"}', claims))).toBe(1);
  });

  test.each([
    ["a list", "[]"],
    ["a text", '"x"'],
    ["null", "null"],
    ["nothing", ""],
    ["cut short", '{"iss":'],
    ["with a byte order mark", `\ufeff${JSON.stringify({})}`],
  ])("claims or a header that are %s", async (_name, text) => {
    const good = JSON.stringify(goodClaims());
    expect(await vouched(rawToken("RS256", rsa.privateKey, '{"alg":"RS256","kid":"rsa"}', text))).toBe(0);
    expect(await vouched(rawToken("RS256", rsa.privateKey, text, good))).toBe(0);
  });

  test("nested deeper than 32", async () => {
    const head = '{"alg":"RS256","kid":"rsa"}';
    expect(await vouched(rawToken("RS256", rsa.privateKey, head, nested(31)))).toBe(1);
    for (const depth of [32, 6_000])
      expect(await vouched(rawToken("RS256", rsa.privateKey, head, nested(depth)))).toBe(0);
  });

  test("claims that are not UTF-8", async () => {
    const head = base64url('{"alg":"RS256","kid":"rsa"}');
    const bytes = Buffer.concat([
      Buffer.from(JSON.stringify(goodClaims()).slice(0, -1)),
      Buffer.from(',"x":"'),
    ]);
    const claims = base64url(Buffer.concat([bytes, Buffer.from([0xff]), Buffer.from('"}')]));
    const input = `${head}.${claims}`;
    expect(await vouched(`${input}.${base64url(signature("RS256", rsa.privateKey, input))}`)).toBe(0);
  });

  test("huge, although signed well; and huger still", async () => {
    expect(await vouched(tokenBy(rsa, { pad: "x".repeat(16_384) }))).toBe(0);
    expect(await vouched(tokenBy(rsa, { pad: "x".repeat(10_000) }))).toBe(1);
    expect(await vouched("x".repeat(50_000_000))).toBe(0);
    expect(await vouched(".".repeat(1_000_000))).toBe(0);
  });

  test.each([
    ["padding", (token: string) => `${token}=`],
    ["a line break", (token: string) => `${token}\n`],
    ["a space before", (token: string) => ` ${token}`],
    ["a fourth part", (token: string) => `${token}.x`],
    ["five parts, as if it were encrypted", (token: string) => `${token}.x.x`],
    ["plain base64", (token: string) => token.replaceAll("_", "/").replaceAll("-", "+")],
    ["a scheme", (token: string) => `Bearer ${token}`],
    ["the JSON form", (token: string) => JSON.stringify({ payload: token.split(".")[1] })],
  ])("written with %s", async (_name, change) => {
    // One that has a character in which the two alphabets differ: nearly every token.
    const token =
      Array.from({ length: 9 }, (_, jti) => tokenBy(rsa, { jti })).find((each) => /[-_]/.test(each)) ?? "";
    expect(await vouched(token)).toBe(1);
    expect(await vouched(change(token))).toBe(0);
  });

  test("a signature whose unused bits were set", async () => {
    const token = tokenBy(ed);
    const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const last = digits.indexOf(token.at(-1) ?? "");
    // 64 bytes: 86 digits, of which the last holds two bits and four of padding.
    expect(await vouched(token)).toBe(1);
    expect(await vouched(`${token.slice(0, -1)}${digits[last + 1]}`)).toBe(0);
  });

  test("anything at all, and nothing throws", async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string({ unit: "binary" }), fc.string()), async (text) => {
        expect(await vouched(text)).toBe(0);
        expect(await vouched(`${base64url(text)}.${base64url(text)}.${base64url(text)}`)).toBe(0);
      }),
    );
  });

  test("look-alikes in a subject stay what they are: a binding sees the difference", async () => {
    const [found] = await verifier.verify([provider], tokenBy(rsa, { sub: "repo:аcme" }));
    expect(found?.identity.subject).toBe("repo:аcme");
    expect(found?.identity.subject === "repo:acme").toBe(false);
  });
});
