// The one statement for all reads that wait, against the rule itself: what it finds allowed, decide() does, what it puts on
// record is what came back, and who is known to it is let in by what holds now.
import { describe, expect, test } from "vitest";
import {
  OWNER_ACTIONS,
  ROLES,
  type Role,
  decide,
  formatScope,
  judge,
  parseScope,
} from "../../src/domain/access.ts";
import type { OwnerKey, PrincipalRecord } from "../../src/domain/ports.ts";
import type { Ahead, FoundAhead } from "../../src/domain/read-ahead.ts";
import { type Fixture, auditQuery, newId, openFixture, path } from "./fixture.ts";
import { PATHS, SELECTS, aheadOf, placeOf } from "./read-ahead-kit.ts";

/** In an order of their own; of the second ones, one is not there. */
const EACH: readonly Ahead["select"][] = [
  { kind: "each", paths: ["connect/S3/b/c", "connect/S3/a", "connect/S3/b"].map(path) },
  { kind: "each", paths: ["connect/S3/b", "connect/S3/none"].map(path) },
];

/** Principals in every role and with many a ceiling, at three owners. */
async function world(f: Fixture) {
  const { org, orgKey, key } = await f.organization();
  const elsewhere = await f.organization();
  const keys: OwnerKey[] = [orgKey, key];
  for (const each of keys) for (const at of PATHS) await f.setting(each, at);
  const scopes = [
    [],
    ...[orgKey, key].flatMap((owner) =>
      OWNER_ACTIONS.slice(0, 3).flatMap((action) => [
        [formatScope({ action, owner, path: null })],
        [formatScope({ action, owner, path: "connect/S3" })],
        [
          formatScope({ action, owner, path: "connect/S" }),
          formatScope({ action, owner, path: "connect/S3/b" }),
        ],
      ]),
    ),
  ];
  const principals: PrincipalRecord[] = [];
  const seats: (readonly [Role | null, Role | null])[] = [null, ...ROLES].flatMap((at) =>
    [null, ...ROLES].map((above) => [at, above] as const),
  );
  for (const [at, above] of seats)
    for (const organization_id of [null, org, elsewhere.org]) {
      const kind = organization_id === null ? ("user" as const) : ("service_account" as const);
      const ceiling = organization_id === null ? [] : (scopes[principals.length % scopes.length] ?? []);
      const one = await f.principal({ kind, organization_id, scopes: ceiling });
      if (at !== null) await f.member(key, one.id, at);
      if (above !== null) await f.member(orgKey, one.id, above);
      principals.push(one);
    }
  const person = principals.find(({ kind }) => kind === "user");
  const own: OwnerKey = { owner_type: "user", owner_id: person?.id ?? "", tenant_id: person?.id ?? "" };
  await f.setting(own, PATHS[0] ?? "");
  const tokens = await Promise.all(
    principals.flatMap(({ id }, index) =>
      [[], scopes[(index * 7 + 1) % scopes.length] ?? []].map((each) => f.token(id, { scopes: each })),
    ),
  );
  return { owners: [orgKey, key, own], tokens };
}

/** What the gate decides from the facts that came back. */
function allowedBy(ahead: Ahead, { admission }: FoundAhead): boolean {
  if (admission === null || admission.token === null) return false;
  const { principal, token, standing } = admission;
  const ceilings = [token.scopes, principal.scopes].filter((each) => each.length > 0);
  const facts = { ...principal, ceilings: ceilings.map((each) => each.map(parseScope)) };
  const place = placeOf(ahead.select);
  const asked = judge(
    { principal: facts, standing, target: null, owns_an_organization: false },
    { action: "list", path: place, breadth: ahead.strict ? "whole" : "some" },
  );
  const all = decide(facts, standing, ahead.action, place);
  return asked.verdict === "allow" && all.verdict === "allow";
}

describe("read ahead", () => {
  test("the statement evaluates the table of rights as decide() does, for every role, kind, ceiling and owner", async () => {
    const f = await openFixture();
    const { owners, tokens } = await world(f);
    const all = tokens.flatMap(({ hash }, index) =>
      owners.flatMap((owner) =>
        [...SELECTS, ...EACH].flatMap((select, which) => {
          const action = (index + which) % 2 === 0 ? ("decrypt" as const) : ("list" as const);
          const { owner_type, owner_id } = owner;
          return [aheadOf({ kind: "api", hash }, { owner_type, owner_id }, select, action)];
        }),
      ),
    );
    // All at once: in batches as full as they get. Whether a ceiling covers it all is known of who was seen before.
    const first = await Promise.all(all.map((each) => f.store.readAhead(each)));
    const early = first.filter((each) => each !== null && each.recorded !== null);
    expect(early.every((each) => allowedBy(all[first.indexOf(each)] as Ahead, each as FoundAhead))).toBe(
      true,
    );
    const again = all.map((each) => ({ ...each, event: { ...each.event, id: newId() } }));
    const found = await Promise.all(again.map((each) => f.store.readAhead(each)));
    const wrong = all.filter((ahead, index) => {
      const answer = found[index];
      if (answer === null || answer === undefined) return true;
      const many = ahead.select.kind === "each" ? ahead.select.paths.length : 1;
      const stands = !ahead.strict || (answer.page?.rows.length ?? 0) === many;
      // Whoever may not has no page, so whether something stands there is only known of those who may.
      return (answer.recorded !== null) !== (allowedBy(ahead, answer) && stands);
    });
    expect(wrong.map(({ owner, action, select }) => [owner.owner_type, action, placeOf(select)])).toEqual([]);
    const recorded = found.filter((each) => each?.recorded !== null && each?.recorded !== undefined);
    expect(recorded.length).toBeGreaterThan(100);
    expect(all.length - recorded.length).toBeGreaterThan(100);

    // On record is what is said to be, and nothing else.
    const logs = await Promise.all(
      owners.map((owner) => f.store.reader.audit(auditQuery(owner, { limit: 100_000 }))),
    );
    const events = new Map(logs.flatMap((log) => log.events).map((each) => [each.id, each]));
    expect(events.size).toBe(recorded.length + early.length);
    expect(recorded.map((each) => events.get(each?.recorded?.id ?? ""))).toEqual(
      recorded.map((each) => each?.recorded),
    );
  });

  test("who is known is admitted as by a store that knows nobody, after every kind of change", async () => {
    const f = await openFixture();
    const { key } = await f.organization();
    const { owner_type, owner_id } = key;
    await f.setting(key, "connect/S3/a");
    const narrow = (of: string): string => formatScope({ action: "decrypt", owner: key, path: of });
    const select: Ahead["select"] = { kind: "at", path: path("connect/S3/a"), match: "exact" };
    const changes = [
      "UPDATE tokens SET name = 'another' WHERE id = $1 OR id = $2",
      `UPDATE tokens SET scopes = ARRAY['${narrow("connect/S3")}'] WHERE id = $1 OR id = $2`,
      `UPDATE tokens SET scopes = ARRAY['${narrow("connect/Other")}'] WHERE id = $1 OR id = $2`,
      `UPDATE principals SET scopes = ARRAY['${narrow("connect/Other")}'] WHERE id = $1 OR id = $2`,
      "UPDATE principals SET disabled_at = now() WHERE id = $1 OR id = $2",
      "UPDATE tokens SET revoked_at = now() WHERE id = $1 OR id = $2",
      "UPDATE tokens SET expires_at = '2026-01-01' WHERE id = $1 OR id = $2",
      "UPDATE tokens SET max_uses = 5 WHERE id = $1 OR id = $2",
      "UPDATE tokens SET allowed_cidrs = ARRAY['192.0.2.0/24'] WHERE id = $1 OR id = $2",
      "UPDATE memberships SET role = 'read' WHERE principal_id = $1 OR principal_id = $2",
      "DELETE FROM memberships WHERE principal_id = $1 OR principal_id = $2",
      "DELETE FROM tokens WHERE id = $1 OR id = $2",
    ];
    for (const change of changes) {
      const { id } = await f.principal();
      await f.member(key, id, "write");
      const token = await f.token(id, { scopes: [narrow("connect")] });
      const read = async (store: Fixture["store"]) => {
        const asked = aheadOf({ kind: "api", hash: token.hash }, { owner_type, owner_id }, select, "decrypt");
        const found = await store.readAhead(asked);
        return { admission: found?.admission, isRecorded: (found?.recorded ?? null) !== null };
      };
      // The first makes it known; the second is let in by what is known.
      await read(f.store);
      expect(await read(f.store)).toMatchObject({ isRecorded: true });
      await f.driver.query(change, [token.id, id]);
      const fresh = f.open();
      const known = await read(f.store);
      await read(fresh.store);
      expect({ change, ...(await read(f.store)) }).toEqual({ change, ...(await read(fresh.store)) });
      // A change that is seen for the first time is judged step by step: nothing is on record then that would not be.
      expect(known.admission).toEqual((await read(fresh.store)).admission);
      expect(known.isRecorded && !(await read(fresh.store)).isRecorded).toBe(false);
      await fresh.close();
    }
  });
});
