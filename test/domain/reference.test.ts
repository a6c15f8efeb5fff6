// Contract section 5: what is a reference, and what is a Comet API Key Secret.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatRef } from "../../src/domain/address.ts";
import { BrokerError } from "../../src/domain/errors.ts";
import { isComet, parseComet } from "../../src/domain/comet.ts";
import { parseReference } from "../../src/domain/reference.ts";

const isCometSecret = (text: string): boolean => isComet(text) && parseComet(text) !== null;

const ID = "01981c5e-9c44-7e0a-b6d5-1f2a3b4c5d6e";
const REF = `project/${ID}/connect/S3/a`;

function errorOf(work: () => unknown): BrokerError | null {
  try {
    work();
    return null;
  } catch (error) {
    if (error instanceof BrokerError) return error;
    throw error;
  }
}
const codeOf = (text: string) => errorOf(() => parseReference(text))?.code ?? "ok";

describe("a reference", () => {
  test.each([
    [REF, null, null],
    [`coffer://${REF}`, null, null],
    [`${REF}?version=3`, 3, null],
    [`${REF}#secret_access_key`, null, "secret_access_key"],
    [`coffer://${REF}?version=2147483647#f`, 2_147_483_647, "f"],
  ])("%s", (text, version, field) => {
    const owner = { owner_type: "project", owner_id: ID };
    expect(parseReference(text)).toEqual({ owner, path: "connect/S3/a", version, field });
  });

  test("is what Copy ID gives, for every kind of owner; an id in capitals is the same one", () => {
    for (const owner_type of ["organization", "project", "user"] as const) {
      const owner = { owner_type, owner_id: ID };
      expect(parseReference(formatRef(owner, "secret/Custom/x/y"))).toMatchObject({ owner });
      expect(parseReference(`${owner_type}/${ID.toUpperCase()}/secret/Custom/x`).owner).toEqual(owner);
    }
  });

  test.each([
    "",
    "plain text",
    "sk-live-0123456789",
    "https://example.com/a/b/c",
    `Coffer://${REF}`,
    `coffer:/${REF}`,
    `coffer://coffer://${REF}`,
    ` ${REF}`,
    `${REF} `,
    `${REF}\n`,
    `${REF}/`,
    `/${REF}`,
    `team/${ID}/connect/S3/a`,
    `project/not-an-id-not-an-id-not-an-id-not-id/connect/S3/a`,
    `project/${ID}`,
    `project/${ID}/connect/S3`,
    `project/${ID}/connect/S3/../a`,
    `project/${ID}/connect/S3/a%2Fb`,
    `project/${ID}/connect/S3/${"a".repeat(65)}`,
    `project/${ID}/connect/S3/${"a/".repeat(300)}a`,
    `${REF}?version=0`,
    `${REF}?version=01`,
    `${REF}?version=-1`,
    `${REF}?version=2147483648`,
    `${REF}?version=99999999999`,
    `${REF}?version=`,
    `${REF}?versions=1`,
    `${REF}?version=1&version=2`,
    `${REF}#a?version=1`,
    `${REF}#`,
    `${REF}#a#b`,
    `${REF}#${"f".repeat(65)}`,
    `${REF}\0`,
    "x".repeat(100_000),
  ])("is not %j: invalid_reference", (text) => {
    expect(codeOf(text)).toBe("invalid_reference");
  });

  test("with a path of good form and an unknown prefix is invalid_value, which names the known ones", () => {
    const error = errorOf(() => parseReference(`project/${ID}/other/Kind/a`));
    expect([error?.code, error?.message]).toEqual(["invalid_value", expect.stringContaining("connect/S3")]);
  });

  test("an error never repeats the text", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 5 }), (secret) => {
        for (const text of [
          secret,
          `${REF}${secret}`,
          `project/${ID}/nope/Nope/${secret}`,
          `_SECRET_-${secret}`,
        ]) {
          const error = errorOf(() => isCometSecret(text) || parseReference(text));
          if (error !== null) expect(JSON.stringify([error.message, error.fields])).not.toContain(secret);
        }
      }),
    );
  });

  test("is not what repeats a piece of one many times", () => {
    for (const text of [`project/${ID}/${"a/".repeat(500)}`, "coffer://".repeat(100), "a".repeat(1024)])
      expect(codeOf(text)).toBe("invalid_reference");
  });
});

const comet = (note: unknown) => `_SECRET_-${Buffer.from(JSON.stringify(note), "latin1").toString("base64")}`;
const AWS = {
  type: "AWS",
  details: { secret_name: "comet", region_name: "us-east-1", profile_name: null },
  comet_ml_version: "3.58.8",
};
const GCP = {
  type: "GCP",
  details: { project_id: "p", secret_id: "s", secret_version: "latest" },
  comet_ml_version: "3.58.8",
};

describe("a Comet API Key Secret", () => {
  test("is what the Comet SDK makes, of both clouds, with keys that we do not know", () => {
    expect(isCometSecret(comet(AWS))).toBe(true);
    expect(isCometSecret(comet({ ...AWS, details: { ...AWS.details, secret_version: "v" }, more: 1 }))).toBe(
      true,
    );
    expect(isCometSecret(comet(GCP))).toBe(true);
    expect(isCometSecret(REF)).toBe(false);
  });

  test.each([
    "_SECRET_-",
    "_SECRET_-not base64",
    `${comet(AWS)}\n`,
    comet(AWS).replace(/=*$/, "").slice(0, -1),
    comet("text"),
    comet(null),
    comet([AWS]),
    comet({ ...AWS, details: "text" }),
    comet({ ...AWS, comet_ml_version: 3 }),
    comet({ ...AWS, details: { secret_name: "comet" } }),
    comet({ ...GCP, details: { ...GCP.details, secret_version: 1 } }),
    comet({ ...AWS, details: { secret_name: "ä", region_name: "x" } }),
  ])("is not %s: invalid_reference", (text) => {
    expect(errorOf(() => isCometSecret(text))?.code).toBe("invalid_reference");
  });

  test("of an unknown type says which are known, and hints at a newer SDK", () => {
    const error = errorOf(() => isCometSecret(comet({ ...AWS, type: "AZURE" })));
    expect([error?.code, error?.message]).toEqual([
      "invalid_reference",
      expect.stringMatching(/AWS and GCP.*newer/),
    ]);
  });
});
