// The one statement for all reads that wait, against the rule itself: what it finds allowed, decide() does, and what
// it puts on record is what came back; members of a batch fail singly, and none is in another's place.
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
import { type Owner, type PathQuery, type SettingPath, commonPlace } from "../../src/domain/address.ts";
import type { OwnerKey, PresentedToken, PrincipalRecord } from "../../src/domain/ports.ts";
import type { Ahead, FoundAhead } from "../../src/domain/read-ahead.ts";
import { type Fixture, auditQuery, event, newId, openFixture, path, prefix } from "./fixture.ts";

/** Under one of them are so many that they are not moved for each who may read them. */
const PATHS = ["a", "b", "b/c", "d", "e", "f"].map((name) => `connect/S3/${name}`).concat("connect/S3-old/a");
const SELECTS: readonly PathQuery[] = [
  { kind: "at", path: path("connect/S3/a"), match: "auto" },
  { kind: "at", path: path("connect/S3/b"), match: "exact" },
  { kind: "at", path: path("connect/S3/none"), match: "exact" },
  { kind: "under", prefix: prefix("connect/S3") },
  { kind: "under", prefix: prefix("connect/S3/b") },
];

/** In an order of their own; of the second ones, one is not there. */
const EACH: readonly Ahead["select"][] = [
  { kind: "each", paths: ["connect/S3/b/c", "connect/S3/a", "connect/S3/b"].map(path) },
  { kind: "each", paths: ["connect/S3/b", "connect/S3/none"].map(path) },
];

function placeOf(select: Ahead["select"]): string {
  if (select.kind === "each") return commonPlace(select.paths) ?? "";
  return select.kind === "at" ? select.path : select.kind === "under" ? select.prefix : "";
}

function aheadOf(
  presented: PresentedToken,
  owner: Owner,
  select: Ahead["select"],
  action: Ahead["action"],
): Ahead {
  const worded = event(null, { action, path: placeOf(select), request_id: newId() });
  return {
    presented,
    owner,
    select,
    action,
    strict: select.kind === "each" || (select.kind === "at" && select.match === "exact"),
    limit: 1000,
    event: { ...worded, ...owner },
  };
}

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

  test("answers the rows that a read of its own does", async () => {
    const f = await openFixture();
    const { key } = await f.organization();
    for (const at of PATHS) await f.setting(key, at, { labels: { quote: '"\\' }, description: "'" });
    const { id } = await f.principal();
    await f.member(key, id, "write");
    const { hash } = await f.token(id);
    const { owner_type, owner_id } = key;
    for (const select of SELECTS.filter((each) => placeOf(each) !== "connect/S3/none"))
      for (const action of ["list", "decrypt"] as const) {
        const found = await f.store.readAhead(
          aheadOf({ kind: "api", hash }, { owner_type, owner_id }, select, action),
        );
        const page = await f.store.reader.settings({
          key,
          select,
          include_deleted: false,
          type: null,
          label: null,
          after: null,
          limit: 1000,
          sealed_bytes_max: action === "decrypt" ? 1_000_000 : null,
        });
        expect(found?.page).toEqual(page);
      }
  });

  test("settings at each of some paths are those that stand there, in the order in which they are asked for", async () => {
    const f = await openFixture();
    const { key } = await f.organization();
    for (const at of PATHS) await f.setting(key, at);
    const { id } = await f.principal();
    await f.member(key, id, "write");
    const { hash } = await f.token(id);
    const { owner_type, owner_id } = key;
    const read = (paths: readonly SettingPath[]) => {
      const select = { kind: "each", paths } as const;
      return f.store.readAhead(aheadOf({ kind: "api", hash }, { owner_type, owner_id }, select, "decrypt"));
    };
    const paths = ["connect/S3/b", "connect/S3-old/a", "connect/S3/b/c"].map(path);
    // Found at first, and known then.
    for (let round = 0; round < 3; round++) {
      const found = await read(paths);
      expect(found?.page?.rows).toEqual(
        await Promise.all(paths.map((at) => f.store.reader.setting(key, at))),
      );
      expect(found?.recorded?.settings.map((each) => each.path)).toEqual(paths);
    }
    const fewer = await read([...paths, path("connect/S3/none")]);
    expect(fewer).toMatchObject({ recorded: null });
    expect(fewer?.page?.rows).toHaveLength(paths.length);
    expect(await read(Array.from({ length: 65 }, (_, n) => path(`connect/S3/${n}`)))).toBeNull();
  });

  test("what is not plain is left to the gate, with nothing on record", async () => {
    const f = await openFixture();
    const { key } = await f.organization();
    const { owner_type, owner_id } = key;
    await f.setting(key, "connect/S3/a");
    await f.setting(key, "connect/S3/over", { expires_at: f.time.now });
    await f.setting(key, "connect/S3/gone", { deleted_at: f.time.now, purge_at: f.time.now });
    await f.setting(key, "connect/S3/large", { sealed: Buffer.alloc(20_000) });
    const { id } = await f.principal();
    await f.member(key, id, "owner");
    const at = (to: string): Ahead["select"] => ({ kind: "at", path: path(to), match: "exact" });
    const plain = await f.token(id);
    const hash = async (over: object): Promise<Buffer> => (await f.token(id, over)).hash;
    const cases: readonly (readonly [Buffer, string])[] = [
      [await hash({ max_uses: 5 }), "connect/S3/a"],
      [await hash({ allowed_cidrs: ["192.0.2.0/24"] }), "connect/S3/a"],
      [await hash({ revoked_at: f.time.now }), "connect/S3/a"],
      [await hash({ expires_at: f.time.now }), "connect/S3/a"],
      [plain.hash, "connect/S3/over"],
      [plain.hash, "connect/S3/gone"],
      [plain.hash, "connect/S3/large"],
    ];
    const found = await Promise.all(
      cases.map(([each, to]) =>
        f.store.readAhead(aheadOf({ kind: "api", hash: each }, { owner_type, owner_id }, at(to), "decrypt")),
      ),
    );
    expect(found.map((each) => each?.recorded)).toEqual(cases.map(() => null));
    const disabled = await f.principal({ disabled_at: f.time.now });
    await f.member(key, disabled.id, "owner");
    const token = await f.token(disabled.id);
    const asked = aheadOf(
      { kind: "api", hash: token.hash },
      { owner_type, owner_id },
      at("connect/S3/a"),
      "decrypt",
    );
    expect((await f.store.readAhead(asked))?.recorded).toBeNull();
    const unknown = aheadOf(
      { kind: "api", hash: Buffer.alloc(32) },
      { owner_type, owner_id },
      at("connect/S3/a"),
      "list",
    );
    expect(await f.store.readAhead(unknown)).toEqual({ admission: null, page: null, recorded: null });
    expect((await f.store.reader.audit(auditQuery(key))).events).toEqual([]);
  });

  test("a member that the database refuses fails by itself: the others are answered, each with its own", async () => {
    const f = await openFixture();
    const owners = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const { key } = await f.organization();
        await f.setting(key, "connect/S3/a");
        const { id } = await f.principal();
        await f.member(key, id, "write");
        return { key, hash: (await f.token(id)).hash };
      }),
    );
    const select: Ahead["select"] = { kind: "at", path: path("connect/S3/a"), match: "exact" };
    const asked = owners.map(({ key: { owner_type, owner_id }, hash }, index) => {
      const provider = { id: newId(), revision: 2 ** 40 };
      const claims = { id: newId(), principal_id: newId(), token_id: null, provider, scopes: [] };
      const times = { issued_at: f.time.now, expires_at: f.time.now };
      const presented: PresentedToken =
        index % 10 === 0 ? { kind: "access", claims: { ...claims, ...times } } : { kind: "api", hash };
      return aheadOf(presented, { owner_type, owner_id }, select, "decrypt");
    });
    const found = await Promise.all(asked.map((each) => f.store.readAhead(each)));
    for (const [index, { key }] of owners.entries()) {
      if (index % 10 === 0) expect(found[index]).toBeNull();
      else expect(found[index]?.page?.rows[0]?.setting.owner_id).toBe(key.owner_id);
    }
  });

  test("a ceiling that cannot be made out lets nobody in, and keeps nobody waiting", async () => {
    const f = await openFixture();
    const { key } = await f.organization();
    const { owner_type, owner_id } = key;
    await f.setting(key, "connect/S3/a");
    const { id } = await f.principal();
    await f.member(key, id, "write");
    const [bad, good] = [await f.token(id), await f.token(id)];
    await f.driver.query("UPDATE tokens SET scopes = ARRAY['no scope of ours'] WHERE id = $1", [bad.id]);
    const select: Ahead["select"] = { kind: "at", path: path("connect/S3/a"), match: "exact" };
    const read = (hash: Buffer) =>
      f.store.readAhead(aheadOf({ kind: "api", hash }, { owner_type, owner_id }, select, "decrypt"));
    await read(bad.hash);
    const all = [...Array.from({ length: 200 }, () => bad.hash), good.hash].map(read);
    const found = await Promise.all(all);
    expect(found.filter((each) => each?.recorded !== null)).toEqual([found.at(-1)]);
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
