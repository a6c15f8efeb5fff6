// PostgreSQL is there and cannot do its work: no connection left, read-only, its disk full, or another server is the
// primary now. Writes and reads alike are 503, since no read goes unrecorded; and all is well once the server is.
import { writeFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { settingsUrl } from "../harness/broker.ts";
import { smallDisk } from "../harness/own-postgres.ts";
import { until } from "../harness/until.ts";
import { type Stand, atRest, startStand, survive } from "./faults-kit.ts";
import { refusals } from "./faults-load-kit.ts";

const TOLD = { latencyMs: 12_000, recoveryMs: 5_000 };
const FAULT_MS = 2_000;
const REFUSALS = 20;

describe("a server without room", () => {
  let stand: Stand;
  const others: pg.Client[] = [];
  beforeAll(async () => {
    stand = await startStand({ settings: { max_connections: "12", superuser_reserved_connections: "3" } });
    await stand.server.sql("CREATE ROLE other LOGIN PASSWORD 'other'");
  }, 120_000);
  afterAll(async () => {
    await Promise.all(others.map((each) => each.end()));
    await stand.close();
  });

  /** Others take every connection that there is. */
  async function takeAll(): Promise<void> {
    const url = new URL(stand.databaseUrl);
    url.username = "other";
    url.password = "other";
    for (;;) {
      const other = new pg.Client({ connectionString: url.href });
      other.on("error", () => undefined);
      try {
        await other.connect();
      } catch (error) {
        expect((error as { code?: string }).code).toBe("53300");
        return;
      }
      others.push(other);
    }
  }

  test("out of connections, ours lost: 503 until others let go", async () => {
    await survive(
      stand,
      "out of connections",
      async (load) => {
        const at = performance.now();
        // Ours are lost, and others have them all before we are back.
        await stand.proxy.refuse();
        await takeAll();
        await stand.proxy.mend();
        const back = performance.now();
        await load.until(() => refusals(load, back) > REFUSALS);
        expect(refusals(load, at)).toBeGreaterThan(REFUSALS);
        await Promise.all(others.splice(0).map((each) => each.end()));
      },
      TOLD,
    );
    await atRest(stand, stand.server);
  }, 120_000);
});

describe("a server that only reads", () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await startStand();
  }, 120_000);
  afterAll(() => stand.close());

  async function readOnly(on: boolean): Promise<void> {
    await stand.server.sql(`ALTER SYSTEM SET default_transaction_read_only = ${on ? "on" : "off"}`);
    await stand.server.sql("SELECT pg_reload_conf()");
  }

  test("read-only: reads and writes are 503, /readyz says that the audit is away", async () => {
    await survive(
      stand,
      "read-only",
      async (load) => {
        const at = performance.now();
        await readOnly(true);
        await load.until(() => refusals(load, at) >= REFUSALS);
        const ready = await stand.world.reader.api.get("/readyz");
        expect([ready.status, ready.body.checks.audit]).toEqual([503, "unavailable"]);
        await readOnly(false);
      },
      TOLD,
    );
    expect((await stand.world.reader.api.get("/readyz")).status).toBe(200);
    await atRest(stand, stand.server);
  }, 120_000);

  test("the pool exhausted: who cannot have a connection in 3 s is 503, and the rest goes on", async () => {
    const blocker = new pg.Client({ connectionString: stand.databaseUrl });
    await blocker.connect();
    try {
      await survive(
        stand,
        "pool exhausted",
        async (load) => {
          const at = performance.now();
          // Every statement of the broker's waits for this one: all connections are in use soon.
          await blocker.query("BEGIN; LOCK TABLE tokens, audit_events IN ACCESS EXCLUSIVE MODE");
          const { keeper, project } = stand.world;
          const crowd = Array.from({ length: 30 }, async () => {
            const started = performance.now();
            // Neither a read of settings nor any other admission: those that wait share a connection.
            const { status } = await keeper.api.get("/users?email=somebody@example.com");
            return { status, milliseconds: performance.now() - started };
          });
          // Reads of settings that wait share a connection: they are held up by the lock itself, and no longer.
          const read = settingsUrl(project, "secret/Custom/kept", { decrypt: "true" });
          const readers = Array.from({ length: 30 }, () => keeper.api.get(read));
          const answers = await Promise.all(crowd);
          expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]));
          const quick = answers.filter(({ milliseconds }) => milliseconds < 5_000);
          expect(quick.length).toBeGreaterThanOrEqual(20);
          const refused = (await Promise.all(readers)).map(({ status }) => status);
          expect(new Set(refused)).toEqual(new Set([503]));
          expect(performance.now() - at).toBeLessThan(20_000);
          await load.until(() => refusals(load, at) >= 3);
          await blocker.query("ROLLBACK");
        },
        { latencyMs: 20_000, recoveryMs: 10_000 },
      );
    } finally {
      await blocker.end();
    }
    await atRest(stand, stand.server);
  }, 120_000);
});

describe("a server whose disk is full", () => {
  let stand: Stand;
  let unmount = (): void => undefined;
  beforeAll(async () => {
    stand = await startStand({
      async prepare(server) {
        const disk = join(server.folder, "disk");
        unmount = await smallDisk(disk, 64);
        await server.sql(`CREATE TABLESPACE small LOCATION '${disk}'`);
        return server.createDatabase("coffer", "small");
      },
    });
  }, 120_000);
  afterAll(async () => {
    try {
      await stand.server.stop("immediate");
    } finally {
      // Also where there is no server: the folder cannot go before.
      unmount();
    }
    await stand.close();
  });

  test("disk full: 503 once nothing more can be recorded, and on as soon as there is room", async () => {
    const filler = join(stand.server.folder, "disk", "filler");
    await survive(
      stand,
      "disk full (tmpfs of 64 MB, really full)",
      async (load) => {
        const at = performance.now();
        await expect(writeFile(filler, Buffer.alloc(128 * 2 ** 20))).rejects.toMatchObject({
          code: "ENOSPC",
        });
        await load.until(() => refusals(load, at) >= REFUSALS);
        await rm(filler);
      },
      TOLD,
    );
    await atRest(stand, stand.server);
  }, 120_000);
});

describe("a server that fails over", () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await startStand();
  }, 120_000);
  afterAll(() => stand.close());

  test("failing over: the old primary read-only, a follower promoted; what was acknowledged is there", async () => {
    const { server, proxy } = stand;
    const follower = await server.standby();
    try {
      await server.sql("ALTER SYSTEM SET synchronous_standby_names = 'follower'");
      await server.sql("SELECT pg_reload_conf()");
      await survive(
        stand,
        "failing over to a synchronous follower",
        async () => {
          // As a proxy or a DNS name does it: the old one takes no writes any more, its connections stay.
          await server.sql("ALTER SYSTEM SET default_transaction_read_only = on");
          await server.sql("SELECT pg_reload_conf()");
          await pause(FAULT_MS);
          await follower.sql("SELECT pg_promote()");
          proxy.toward(follower.port);
        },
        TOLD,
      );
      await atRest(stand, follower);
      // A server sees the end of a session when it gets round to it.
      const sessionsLeft = async (): Promise<unknown> => {
        const [left] = await server.sql(
          "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'coffer'",
        );
        return left?.["n"];
      };
      await until("none is left at the old primary", async () => (await sessionsLeft()) === 0, 10);
    } finally {
      await follower.remove();
    }
  }, 120_000);
});
