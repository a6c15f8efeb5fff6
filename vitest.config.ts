import { defineConfig } from "vitest/config";

// The machine has two cores, which the tests share with PostgreSQL and with the brokers that they start.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/harness/server.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    restoreMocks: true,
    unstubEnvs: true,
    reporters: ["default"],
  },
});
