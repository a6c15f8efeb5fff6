// The recipes of docs/federation.md as they stand there, against tokens of each platform's true shape: the right
// workload matches, and the near misses that an attacker would try do not.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Binding, assertBinding, bindingMatches } from "../../src/domain/binding.ts";
import type { TrustedIssuer } from "../../src/domain/federation-ports.ts";
import { setOf, tokenBy, verifierWith } from "./foreign.ts";
import { AUDIENCE, type Claims, RECIPES } from "./recipes-kit.ts";

type Body = Omit<TrustedIssuer, "jwks"> & {
  readonly bindings: readonly (Pick<Binding, "claims" | "service_account_id"> & Partial<Binding>)[];
};

const doc = readFileSync(join(import.meta.dirname, "../../docs/federation.md"), "utf8");

/** The first JSON under a heading of the page. */
function bodyUnder(title: string): Body {
  const [, section = ""] = doc.split(`\n## ${title}\n`);
  const [, json = ""] = /```json\n(.*?)```/s.exec(section.split("\n## ")[0] ?? "") ?? [];
  return JSON.parse(json) as Body;
}

const bindingsOf = ({ bindings }: Body): readonly Binding[] =>
  bindings.map((binding) => ({ match: "exact", scopes: null, ...binding }));

const { verifier } = verifierWith({ allowedPrivate: [] });

describe.each(RECIPES)("$title", ({ title, key, header, claims, right, wrong }) => {
  const body = bodyUnder(title);
  const provider: TrustedIssuer = { ...body, jwks_uri: null, jwks: setOf(key) };

  async function matches(change: Claims): Promise<boolean> {
    const whole = { iss: body.issuer, aud: body.audience, ...claims, ...change };
    const [found] = await verifier.verify([provider], tokenBy(key, whole, header));
    return (
      found !== undefined &&
      bindingsOf(body).some((binding) => bindingMatches(binding, found.identity.claims))
    );
  }

  test("the recipe is one that is taken", () => {
    expect(body.audience).toBe(AUDIENCE);
    expect(() => verifier.assertUsable({ ...body, jwks: null })).not.toThrow();
    for (const [index, binding] of bindingsOf(body).entries())
      expect(() => assertBinding(binding, index)).not.toThrow();
  });

  test("the workload's token is verified and matches", async () => {
    expect(await matches({})).toBe(true);
  });

  test.each(Object.entries(right))("so is one %s", async (_name, change) => {
    expect(await matches(change)).toBe(true);
  });

  test.each([
    ...Object.entries(wrong),
    ["the audience of somebody else", { aud: "https://else.example" }] as const,
    ["an issuer that looks alike", { iss: `${body.issuer}/` }] as const,
  ])("but not %s", async (_name, change) => {
    expect(await matches(change)).toBe(false);
  });
});

test("all repositories of one owner, by a glob, and nobody else's", () => {
  const [binding] = bindingsOf(bodyUnder("GitHub Actions"));
  const claims = { sub: "repo:acme@65/*:ref:refs/heads/main" };
  expect(doc).toContain(`\`"match": "glob"\`, \`"sub": "${claims.sub}"\``);
  const glob = { ...(binding as Binding), match: "glob" as const, claims };
  const matches = (sub: string): boolean => bindingMatches(glob, { sub });
  expect(matches("repo:acme@65/train@74:ref:refs/heads/main")).toBe(true);
  expect(matches("repo:acme@65/other@75:ref:refs/heads/main")).toBe(true);
  for (const sub of [
    "repo:acme@66/train@74:ref:refs/heads/main",
    "repo:acme-evil@65/train@74:ref:refs/heads/main",
    "repo:acme@65/train@74:ref:refs/heads/main2",
    "repo:acme@65/train@74:ref:refs/heads/x/main",
    "repo:acme@65/train@74:environment:ref:refs/heads/main",
    "repo:acme@65/train@74:environment:x:ref:refs/heads/main",
  ])
    expect(matches(sub)).toBe(false);
});
