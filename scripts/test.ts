// Runs vitest and closes with the line `N passed, N failed[, N skipped]`, counted from vitest's own results.
// The exit code is vitest's. Arguments are vitest's as well: `npm test -- test/domain -t "a name"`.
import { rmSync } from "node:fs";
import { chmod, mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { parseCLI, startVitest } from "vitest/node";
import { quickFolder } from "./quick-folder.ts";

// All that tests write is in here, and goes with the run: after Ctrl-C or a SIGTERM, too, when vitest calls nobody back.
const folder = await mkdtemp(join(await quickFolder(), "coffer-test-"));
// Root's PostgreSQL is another user's, who has to get to his own folder in it.
await chmod(folder, 0o711);
process.env["TMPDIR"] = folder;
for (const signal of ["SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

const { filter, options } = parseCLI(["vitest", ...process.argv.slice(2)]);
const vitest = await startVitest("test", filter, { ...options, watch: false });
const counts = { passed: 0, failed: 0, skipped: 0 };
for (const module of vitest.state.getTestModules()) {
  let failedTests = 0;
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    // A test that never got to run is no test that passed.
    counts[state === "pending" ? "failed" : state] += 1;
    if (state === "failed") failedTests += 1;
  }
  // A file that could not be loaded, or a hook that failed, may have no failed test to show for it.
  if (module.state() === "failed" && failedTests === 0) counts.failed += 1;
}
counts.failed += vitest.state.getUnhandledErrors().length;
await vitest.close();
// A run that failed without a failed test (its set-up, say) has failed all the same, and so has one without tests.
if (counts.failed === 0 && (process.exitCode || counts.passed === 0)) counts.failed = 1;
if (counts.failed > 0) process.exitCode ||= 1;
const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
process.exit();
