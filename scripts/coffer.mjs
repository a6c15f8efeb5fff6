#!/usr/bin/env node
// The `coffer` command: sets up when needed, then hands everything to src/cli.ts.
import { fail, run } from "./run.mjs";

await run("src/cli.ts", process.argv.slice(2)).catch(fail);
