// Rights against a second table, written independently of src/domain/access.ts: sentences of the contract turned
// into a decision by hand, without its types or its helpers.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Facts,
  OWNER_ACTIONS,
  type Scope,
  formatScope,
  judge,
  parseScope,
  scopesWithin,
} from "../../src/domain/access.ts";
import { OWNER_TYPES, type Owner } from "../../src/domain/address.ts";

const id = (n: number): string => `01900000-0000-7000-8000-${String(n).padStart(12, "0")}`;
const ORGS = [id(1), id(2)];
const PROJECTS = [id(11), id(12), id(13)];
const ORG_OF: Record<string, string> = { [id(11)]: id(1), [id(12)]: id(1), [id(13)]: id(2) };
const PEOPLE = [id(21), id(22)];
const PATHS = [
  "connect/S3/a",
  "connect/S3/a/b",
  "connect/S3-old/a",
  "connect/S3",
  "connect",
  "secret/Custom/x",
];

type World = {
  who: { id: string; kind: "user" | "service_account"; home: string | null; admin: boolean };
  roles: Record<string, "read" | "write" | "owner">;
  ceilings: string[][];
};

const ownerArb: fc.Arbitrary<Owner> = fc.oneof(
  fc.constantFrom(...ORGS).map((owner_id) => ({ owner_type: "organization" as const, owner_id })),
  fc.constantFrom(...PROJECTS).map((owner_id) => ({ owner_type: "project" as const, owner_id })),
  fc.constantFrom(...PEOPLE).map((owner_id) => ({ owner_type: "user" as const, owner_id })),
);
const scopeArb = fc
  .tuple(fc.constantFrom(...OWNER_ACTIONS), ownerArb, fc.option(fc.constantFrom(...PATHS), { nil: null }))
  .map(
    ([action, owner, path]) =>
      `${action}:${owner.owner_type}/${owner.owner_id}${path === null ? "" : `/${path}`}`,
  );
const worldArb: fc.Arbitrary<World> = fc.record({
  who: fc.oneof(
    fc.record({
      id: fc.constantFrom(...PEOPLE),
      kind: fc.constant("user" as const),
      home: fc.constant(null),
      admin: fc.boolean(),
    }),
    fc.record({
      id: fc.constant(id(31)),
      kind: fc.constant("service_account" as const),
      home: fc.constantFrom(...ORGS),
      admin: fc.constant(false),
    }),
  ),
  roles: fc.dictionary(fc.constantFrom(...ORGS, ...PROJECTS), fc.constantFrom("read", "write", "owner")),
  ceilings: fc.array(fc.array(scopeArb, { minLength: 1, maxLength: 4 }), { maxLength: 2 }),
});

/** The contract's section 2 and the scope sentence of section 4, by hand. */
function oracle(world: World, owner: Owner, action: string, path: string | null): boolean {
  const held = heldRole(world, owner);
  const row: Record<string, string> = {
    list: "read write owner",
    decrypt: "write owner",
    write: "write owner",
    destroy: "owner",
    manage: "owner",
  };
  if (held === "" || !row[action]?.split(" ").includes(held)) return false;
  return world.ceilings.every((ceiling) => ceiling.some((text) => coveredBy(text, owner, action, path)));
}

function heldRole({ who, roles }: World, { owner_type, owner_id }: Owner): string {
  if (owner_type === "user") return who.kind === "user" && who.id === owner_id ? "owner" : "";
  const organization = owner_type === "organization" ? owner_id : ORG_OF[owner_id];
  if (who.kind === "service_account" && who.home !== organization) return "";
  if (owner_type === "project" && organization !== undefined && roles[organization] === "owner")
    return "owner";
  return roles[owner_id] ?? "";
}

function coveredBy(text: string, owner: Owner, action: string, path: string | null): boolean {
  const colon = text.indexOf(":");
  const verb = text.slice(0, colon);
  const [type, owned, ...segments] = text.slice(colon + 1).split("/");
  if (verb !== action && !(verb === "decrypt" && action === "list")) return false;
  if (type !== owner.owner_type || owned !== owner.owner_id) return false;
  if (segments.length === 0) return true;
  if (path === null) return false;
  return segments.every((segment, index) => path.split("/")[index] === segment);
}

function near(outer: readonly Scope[]): fc.Arbitrary<Scope> {
  return fc
    .tuple(
      fc.constantFrom(...outer),
      fc.constantFrom(...OWNER_ACTIONS),
      fc.option(fc.constantFrom(...PATHS), { nil: null }),
      fc.nat(3),
    )
    .map(([scope, action, path, pick]) => ({
      ...scope,
      ...(pick === 0 ? { action } : {}),
      ...(pick === 1 ? { path } : {}),
      ...(pick === 2 && scope.path !== null ? { path: `${scope.path}/more` } : {}),
    }));
}

function factsOf(world: World, owner: Owner): Facts {
  const organization = owner.owner_type === "organization" ? owner.owner_id : ORG_OF[owner.owner_id];
  return {
    principal: {
      id: world.who.id,
      kind: world.who.kind,
      name: "n",
      admin: world.who.admin,
      organization_id: world.who.home,
      ceilings: world.ceilings.map((each) => each.map(parseScope)),
    },
    standing: {
      owner,
      tenant_id: organization ?? owner.owner_id,
      role_at_owner: owner.owner_type === "user" ? null : (world.roles[owner.owner_id] ?? null),
      role_at_organization: organization === undefined ? null : (world.roles[organization] ?? null),
    },
    target: null,
    owns_an_organization: false,
  };
}

describe("rights", () => {
  test("agree with an independently written table, for random roles, scopes, owners, actions and paths", () => {
    const seen = { allow: 0, deny: 0 };
    fc.assert(
      fc.property(
        worldArb,
        ownerArb,
        fc.constantFrom(...OWNER_ACTIONS),
        fc.option(fc.constantFrom(...PATHS), { nil: null }),
        (world, owner, action, path) => {
          const decision = judge(factsOf(world, owner), { action, path, breadth: "whole" });
          seen[decision.verdict] += 1;
          expect(decision.verdict === "allow").toBe(oracle(world, owner, action, path));
        },
      ),
      { numRuns: 20_000 },
    );
    expect(Math.min(seen.allow, seen.deny)).toBeGreaterThan(500);
  });

  test("the full table without scopes: every role, owner type, action and inheritance", () => {
    for (const owner_type of OWNER_TYPES)
      for (const action of OWNER_ACTIONS)
        for (const atOwner of [null, "read", "write", "owner"] as const)
          for (const atOrganization of [null, "read", "write", "owner"] as const)
            for (const kind of ["user", "service_account"] as const) {
              const owner_id = { organization: id(1), project: id(11), user: id(21) }[owner_type];
              const owner: Owner = { owner_type, owner_id };
              const roles: World["roles"] = {};
              if (atOwner !== null) roles[owner_id] = atOwner;
              if (atOrganization !== null && owner_type === "project") roles[id(1)] = atOrganization;
              const home = kind === "user" ? null : id(1);
              const world: World = { who: { id: id(21), kind, home, admin: true }, roles, ceilings: [] };
              const decision = judge(factsOf(world, owner), { action, path: null, breadth: "whole" });
              expect(decision.verdict === "allow").toBe(oracle(world, owner, action, null));
            }
  });

  test("a denial says why only to a caller who may list there", () => {
    fc.assert(
      fc.property(
        worldArb,
        ownerArb,
        fc.constantFrom(...OWNER_ACTIONS),
        fc.constantFrom(...PATHS),
        (world, owner, action, path) => {
          const decision = judge(factsOf(world, owner), { action, path, breadth: "whole" });
          const listable = [null, ...PATHS].some((each) => oracle(world, owner, "list", each));
          if (decision.verdict === "deny") expect(decision.visible).toBe(listable);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  test("an owner that does not exist is refused as one without any right is", () => {
    const facts = {
      ...factsOf(
        { who: { id: id(21), kind: "user", home: null, admin: true }, roles: {}, ceilings: [] },
        { owner_type: "project", owner_id: id(11) },
      ),
    };
    const ask = { action: "list", path: null, breadth: "some" } as const;
    expect(judge({ ...facts, standing: null }, ask)).toEqual(judge(facts, ask));
  });

  test("being admin gives no right at any owner", () => {
    fc.assert(
      fc.property(worldArb, ownerArb, fc.constantFrom(...OWNER_ACTIONS), (world, owner, action) => {
        const ask = { action, path: null, breadth: "whole" } as const;
        const [plain, admin] = [false, true].map((flag) => ({
          ...world,
          who: { ...world.who, admin: flag },
        }));
        if (plain === undefined || admin === undefined) throw new Error("two worlds");
        expect(judge(factsOf(admin, owner), ask)).toEqual(judge(factsOf(plain, owner), ask));
      }),
    );
  });

  test("a scoped credential carries no admin power and gives nobody power", () => {
    const world: World = {
      who: { id: id(21), kind: "user", home: null, admin: true },
      roles: { [id(1)]: "owner" },
      ceilings: [[`manage:organization/${id(1)}`]],
    };
    const facts = factsOf(world, { owner_type: "organization", owner_id: id(1) });
    const scoped = { verdict: "deny", reason: "token_scope", visible: true };
    expect(judge(facts, { action: "administer" })).toEqual(scoped);
    expect(judge(facts, { action: "lookup" })).toEqual(scoped);
    expect(judge(facts, { action: "manage", path: null, breadth: "whole" }).verdict).toBe("allow");
    expect(judge(facts, { action: "manage", path: null, breadth: "whole", unscoped: true }).verdict).toBe(
      "deny",
    );
  });
});

describe("scopes", () => {
  test("read back as they were written", () => {
    fc.assert(
      fc.property(scopeArb, (text) => {
        expect(formatScope(parseScope(text))).toBe(text);
      }),
    );
  });

  test("within another's ceiling, a credential can do nothing that the ceiling cannot", () => {
    // Inner scopes are drawn near outer ones, so that many are within and many just miss.
    const pair = fc
      .array(scopeArb.map(parseScope), { minLength: 1, maxLength: 3 })
      .chain((outer) => fc.tuple(fc.constant(outer), fc.array(near(outer), { minLength: 1, maxLength: 2 })));
    let within = 0;
    fc.assert(
      fc.property(
        pair,
        worldArb,
        fc.constantFrom(...OWNER_ACTIONS),
        fc.constantFrom(...PATHS),
        ([outer, inner], world, action, path) => {
          if (!scopesWithin(inner, outer)) return;
          within += 1;
          for (const { owner } of inner) {
            const facts = factsOf({ ...world, ceilings: [] }, owner);
            const under = (ceiling: Scope[]) =>
              judge(
                { ...facts, principal: { ...facts.principal, ceilings: [ceiling] } },
                { action, path, breadth: "whole" },
              );
            if (under(inner).verdict === "allow") expect(under(outer).verdict).toBe("allow");
          }
        },
      ),
      { numRuns: 3_000 },
    );
    expect(within).toBeGreaterThan(300);
  });

  test.each([
    "",
    "list",
    "list:",
    "read:project/" + id(1),
    "list:team/" + id(1),
    "list:project/x",
    `list:project/${id(1)}/`,
    `list:project/${id(1)}//a`,
    `list:project/${id(1)}/../a`,
    `LIST:project/${id(1)}`,
    `list:project/${id(1)}/a b`,
  ])("%j is no scope", (text) => {
    expect(() => parseScope(text)).toThrow("A scope is");
  });
});
