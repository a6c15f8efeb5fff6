// Everything that can be judged without the test suite; runs all of it and says at the end what failed.
// `npm run check -- lint types` runs only the named steps.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";

const bin = (path: string) => `node_modules/${path}`;
const steps: Record<string, readonly string[]> = {
  format: [bin("@biomejs/biome/bin/biome"), "format", "."],
  lint: [bin("oxlint/bin/oxlint"), "--type-aware", "--deny-warnings"],
  types: [bin("typescript/bin/tsc"), "--project", "."],
  "dead code": [bin("knip/bin/knip.js"), "--no-progress"],
  migrations: ["scripts/check-migrations.ts"],
  layers: [bin("vitest/vitest.mjs"), "run", "--reporter=dot", "test/layers.test.ts"],
  openapi: ["src/cli.ts", "openapi", "--check"],
  licences: ["scripts/check-licences.ts"],
  "openapi lint": [bin("@redocly/cli/bin/cli.js"), "lint", "openapi.yaml"],
};

const wanted = process.argv.slice(2);
const failed: string[] = [];
for (const [name, args] of Object.entries(steps)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const started = performance.now();
  const { ok, output } = await run(args);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${ok ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  if (ok) continue;
  failed.push(name);
  console.log(output);
}
if (failed.length > 0) {
  console.log(`check failed: ${failed.join(", ")}`);
  process.exit(1);
}

/** Every tool runs on this very Node, whatever the system's is; its output matters only when it fails. */
async function run(args: readonly string[]): Promise<{ ok: boolean; output: string }> {
  const [file = ""] = args;
  if (!existsSync(file)) return { ok: false, output: `${file} does not exist` };
  const env = {
    ...process.env,
    DO_NOT_TRACK: "1",
    REDOCLY_TELEMETRY: "off",
    REDOCLY_SUPPRESS_UPDATE_NOTICE: "true",
  };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const ok = await new Promise<boolean>((resolve) => child.on("close", (code) => resolve(code === 0)));
  return { ok, output };
}
