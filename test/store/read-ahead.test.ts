// The one statement for all reads that wait: it answers what a read of its own does, leaves to the gate what is not plain,
// and members of a batch fail singly, none in another's place.
import pg from "pg";
import { describe, expect, test, vi } from "vitest";
import type { SettingPath } from "../../src/domain/address.ts";
import type { PresentedToken } from "../../src/domain/ports.ts";
import type { Ahead } from "../../src/domain/read-ahead.ts";
import { ASKED } from "../../src/store/read-ahead-sql.ts";
import { auditQuery, newId, openFixture, path, prefix } from "./fixture.ts";
import { PATHS, SELECTS, aheadOf, placeOf } from "./read-ahead-kit.ts";

describe("read ahead", () => {
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
          asked_at: f.time.now,
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
    expect(await read(Array.from({ length: 101 }, (_, n) => path(`connect/S3/${n}`)))).toBeNull();
  });

  test("a page of more than is read ahead is looked for in vain once; from then on who reads it is found, and no rows", async () => {
    const f = await openFixture();
    const { key } = await f.organization();
    for (let n = 0; n < 101; n++) await f.setting(key, `connect/S3/${n}`);
    const { id } = await f.principal();
    await f.member(key, id, "write");
    const stranger = await f.token((await f.principal()).id);
    const { hash } = await f.token(id);
    const looks: unknown[] = [];
    const { submit } = pg.Query.prototype;
    vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (this: pg.Query, connection) {
      const { name, values } = this as unknown as { name?: string; values: readonly unknown[] };
      if (name === "read_ahead") looks.push(values[ASKED.findIndex(([each]) => each === "known_page")]);
      return submit.call(this, connection);
    });
    const { owner_type, owner_id } = key;
    const read = (by: Buffer) => {
      const select = { kind: "under", prefix: prefix("connect/S3") } as const;
      return f.store.readAhead(
        aheadOf({ kind: "api", hash: by }, { owner_type, owner_id }, select, "decrypt"),
      );
    };
    const first = await read(hash);
    expect(first).toMatchObject({ page: null, recorded: null, admission: { principal: { id } } });
    expect(await read(hash)).toEqual(first);
    expect(await read(stranger.hash)).toMatchObject({ page: null, recorded: null });
    expect(looks).toEqual(['{"false"}', '{"true"}', '{"true"}']);
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
});
