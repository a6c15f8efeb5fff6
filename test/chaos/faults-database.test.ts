// PostgreSQL goes away, in each of the ways it can, under load: every request is answered 200 or 503 with Retry-After in
// bounded time, nothing that was acknowledged is lost, no connection is leaked, and nobody has to touch the broker.
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Stand, atRest, sessions, startStand, survive } from "./faults-kit.ts";
import { refusals } from "./faults-load-kit.ts";

/** Statements are given up after 13 s of silence (store/client.ts), and then one more try for the audit. */
const SILENT = { latencyMs: 20_000, recoveryMs: 20_000 };
/** A lock is waited for 8 s: by the change, by its turn in the log, and by the event of its failure. */
const LOCKED = { latencyMs: 32_000, recoveryMs: 20_000 };
/** The other end says at once that it is away. */
const TOLD = { latencyMs: 10_000, recoveryMs: 5_000 };
const FAULT_SECONDS = 3;

/** Of the tests of one suite; the suites are side by side. */
const IN_TURN = { concurrent: false, timeout: 120_000 };

/** The one that the tests of a suite share. */
function standOf(): () => Stand {
  let stand: Stand;
  beforeAll(async () => {
    stand = await startStand();
  }, 120_000);
  afterAll(() => stand.close());
  return () => stand;
}

const during = (begin: () => unknown, end: () => unknown) => async (): Promise<void> => {
  await begin();
  // The fault itself takes this long.
  await pause(FAULT_SECONDS * 1_000);
  await end();
};

// Side by side, each with a server of its own: the second waits, for most of its time, until a time-out has run out.

describe.concurrent("PostgreSQL says that it is away, or is soon back", () => {
  const lane = standOf();

  test("PostgreSQL restarted: 503 while it is away, nothing lost", IN_TURN, async () => {
    const stand = lane();
    await survive(
      stand,
      "PostgreSQL restarted",
      during(
        () => stand.server.stop("fast"),
        () => stand.server.start(),
      ),
      TOLD,
    );
    await atRest(stand, stand.server);
  });

  test("PostgreSQL crashed: 503 while it recovers, nothing lost", IN_TURN, async () => {
    const stand = lane();
    await survive(
      stand,
      "PostgreSQL crashed",
      during(
        () => stand.server.stop("immediate"),
        () => stand.server.start(),
      ),
      TOLD,
    );
  });

  test("unreachable, connections refused: 503 at once", IN_TURN, async () => {
    const stand = lane();
    await survive(
      stand,
      "unreachable: refused",
      during(
        () => stand.proxy.refuse(),
        () => stand.proxy.mend(),
      ),
      TOLD,
    );
  });

  test("connections cut again and again: what was under way is 503, the rest goes on", IN_TURN, async () => {
    const stand = lane();
    await survive(
      stand,
      "connections cut",
      async (load) => {
        for (let round = 0; round < 5; round++) {
          stand.proxy.cut();
          const at = performance.now();
          await load.until(() => load.seen.filter((each) => each.at >= at && each.status < 300).length >= 5);
        }
      },
      { ...TOLD, refuses: false },
    );
  });

  test("slow: every answer of the database 150 ms late; slower, and none is refused", IN_TURN, async () => {
    const stand = lane();
    const told = await survive(
      stand,
      "slow by 150 ms a round trip",
      during(
        () => stand.proxy.slow(150),
        () => stand.proxy.mend(),
      ),
      { ...TOLD, refuses: false },
    );
    expect(told.refused).toBe(0);
  });

  test("backends killed under load leave no session behind", IN_TURN, async () => {
    const stand = lane();
    await survive(
      stand,
      "every session killed, five times",
      async (load) => {
        for (let round = 0; round < 5; round++) {
          await stand.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'coffer'",
          );
          const at = performance.now();
          await load.until(() => load.seen.filter((each) => each.at >= at && each.status < 300).length >= 5);
        }
      },
      { ...TOLD, refuses: false },
    );
    const { active = 0, idle = 0 } = await sessions(stand.server);
    expect(active + idle).toBeLessThanOrEqual(6);
  });
});

describe.concurrent("PostgreSQL says nothing", () => {
  const lane = standOf();

  test(
    "unreachable, packets dropped: silence ends in 503 and the dead connections are given up",
    IN_TURN,
    async () => {
      const stand = lane();
      await survive(
        stand,
        "unreachable: silence",
        async (load) => {
          const at = performance.now();
          stand.proxy.stall();
          await load.until(() => refusals(load, at) >= 6);
          stand.proxy.cut();
          await stand.proxy.mend();
        },
        SILENT,
      );
      await atRest(stand, stand.server);
    },
  );

  test("half-open: the server's side is gone and nobody was told", IN_TURN, async () => {
    const stand = lane();
    await survive(stand, "half-open connections", async () => stand.proxy.halfOpen(), {
      ...SILENT,
      refuses: false,
    });
    await atRest(stand, stand.server);
  });

  test(
    "locked: somebody's statement holds every row; 503 after the lock's time-out, then on",
    IN_TURN,
    async () => {
      const stand = lane();
      await survive(
        stand,
        "audit log locked by others",
        async (load) => {
          const { default: pg } = await import("pg");
          const blocker = new pg.Client({ connectionString: stand.databaseUrl });
          await blocker.connect();
          await blocker.query("BEGIN; LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE");
          const at = performance.now();
          await load.until(() => refusals(load, at) >= 3);
          await blocker.query("ROLLBACK");
          await blocker.end();
        },
        LOCKED,
      );
    },
  );
});
