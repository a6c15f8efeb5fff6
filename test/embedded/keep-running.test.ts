// The embedded PostgreSQL is started again when it ends by itself, and never when the broker stops it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { startOf } from "../../src/embedded/lock.ts";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { made } from "../harness/broker.ts";
import { spawnBroker } from "../harness/process.ts";
import { until } from "../harness/until.ts";
import { fill, query, serverPid } from "./kit.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "coffer-embedded-"));
});
afterEach(() => rm(home, { recursive: true, force: true, maxRetries: 10 }));

describe("a server that ends by itself", () => {
  test.each(["SIGTERM", "SIGKILL"] as const)(
    "by %s is started again where it was, and has lost nothing",
    async (signal) => {
      const said: string[] = [];
      const again = Promise.withResolvers<void>();
      const logger = {
        error: (message: string) => void said.push(message),
        info: (message: string) => {
          said.push(message);
          if (message.endsWith("runs again")) again.resolve();
        },
      };
      const server = await startEmbeddedPostgres({ home, logger });
      await fill(server.url);
      process.kill(server.pid, signal);
      await again.promise;
      expect(await query(server.url, "SELECT id FROM kept")).toEqual([{ id: 7 }]);
      expect(await serverPid(home)).not.toBe(server.pid);
      expect(said[0]).toContain("ended by itself");
      const last = await serverPid(home);
      await server.stop();
      expect(startOf(last)).toBeUndefined();
    },
  );

  test("costs a broker a moment: it says so, and gives what it was given before", async () => {
    const broker = await spawnBroker(home);
    onTestFinished(() => broker.killAll());
    const admin = await broker.admin();
    const { id } = await made(admin.post("/organizations", { body: { name: "kept" } }));
    process.kill(await serverPid(home), "SIGKILL");
    await broker.said("the embedded PostgreSQL runs again");
    await until("it is ready again", async () => (await admin.get("/readyz")).status === 200);
    expect((await made(admin.get(`/organizations/${id}`))).name).toBe("kept");
  });

  test("is not started again by a broker that stops, nor left behind by it", async () => {
    const server = await startEmbeddedPostgres({ home });
    process.kill(server.pid, "SIGKILL");
    await server.stop();
    await expect(serverPid(home).then(startOf)).resolves.toBeUndefined();
    const next = await startEmbeddedPostgres({ home });
    await next.stop();
  });
});
