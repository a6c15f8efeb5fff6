import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * The files that take longest. vitest knows durations only where it has run before; on a clean checkout one of these
 * would start last, and all the others be over long before it. Those that keep the processor busy alternate with those
 * that mostly wait: two of a kind side by side take turns, or leave the machine idle.
 */
const LONG = [
  "managers/kill-gcp",
  "chaos/faults-clients",
  "managers/kill-aws",
  "chaos/lifecycle-kill",
  "chaos/backup",
  "chaos/faults-database",
  "keys/master-key",
  "chaos/faults-server",
  "keys/cloud",
  "managers/faults",
  "embedded/embedded",
  "http/report-audit",
  "keys/rewrap",
  "cli-operator",
  "http/webhooks",
  "clients/run",
  "http/shutdown",
  "audit-cli",
  "sealing/aws",
  "chaos/canary",
  "sealing/gcp",
  "chaos/replicas",
  "chaos/kill",
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

/**
 * Compares what the broker does under one load and under another. Beside a file that works now more, now less, it cannot;
 * so it comes after all others, and by itself.
 */
const ALONE = "test/chaos/overload.test.ts";

// The machine has two cores, which the tests share with PostgreSQL and with the brokers that they start. Three workers
// are not much quicker than two, and budgets of a few seconds are then missed now and then.
//
// Files whose tests keep nothing in the process share its modules with those before them: loading them anew was a third of
// their time. Whoever mocks a module, or leaves a global, a clock or the environment other than it was, stands apart.
const SHARED = [
  "test/{domain,http,keys,store}/*.test.ts",
  "test/auth/!(outbound-addresses|outbound-answers|verification-cost).test.ts",
  "test/chaos/!(clock|overload).test.ts",
  "test/managers/!(loading).test.ts",
  "test/sealing/!(aws|gcp-credentials|manager-calls|value-cache).test.ts",
];

export default defineConfig({
  test: {
    projects: [
      { extends: true, test: { name: "alone", include: [ALONE], sequence: { groupOrder: 1 } } },
      { extends: true, test: { name: "shared", include: SHARED, isolate: false } },
      { extends: true, test: { name: "own", include: ["test/**/*.test.ts"], exclude: [ALONE, ...SHARED] } },
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
