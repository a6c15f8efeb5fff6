import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * The files that take longest, longest first. vitest knows durations only where it has run before; on a clean checkout
 * one of these would start last, and all the others be over long before it.
 */
const LONG = [
  "managers/kill-gcp",
  "managers/kill-aws",
  "chaos/backup",
  "keys/master-key",
  "chaos/lifecycle-kill",
  "chaos/faults-database",
  "chaos/faults-clients",
  "keys/rewrap",
  "embedded/embedded",
  "keys/cloud",
  "clients/run",
  "http/report-audit",
  "chaos/faults-server",
  "managers/faults",
  "audit-cli",
  "http/webhooks",
  "http/shutdown",
  "chaos/canary",
  "cli-operator",
  "chaos/replicas",
  "chaos/kill",
  "chaos/overload",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const found = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return found === -1 ? LONG.length : found;
    };
    return files.toSorted((one, other) => rank(one) - rank(other));
  }
}

// The machine has two cores, which the tests share with PostgreSQL and with the brokers that they start. Three workers
// are not much quicker than two, and budgets of a few seconds are then missed now and then.
//
// Files of layers whose tests keep nothing in the process share its modules with those before them: loading them anew was
// a third of their time. Whoever mocks a module, or leaves something in the environment, belongs with the others.
const SHARED = ["test/{domain,http,store}/*.test.ts"];

export default defineConfig({
  test: {
    projects: [
      { extends: true, test: { name: "shared", include: SHARED, isolate: false } },
      { extends: true, test: { name: "own", include: ["test/**/*.test.ts"], exclude: SHARED } },
    ],
    globalSetup: ["test/harness/server.ts"],
    sequence: { sequencer: LongestFirst },
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
