#!/usr/bin/env node
// The `coffer` command: sets up when needed, then hands everything to src/cli.ts.
import module from "node:module";
import { resolve } from "node:path";
import { fail, run } from "./run.mjs";
import { root } from "./setup.mjs";

// These need nothing that is to be installed, and `run` hands its environment on: it must be the caller's own.
const clients = ["run", "get", "put", "ls", "explain"];
const args = process.argv.slice(2);
const isClient = clients.includes(args[0]);

if (isClient && Number.parseInt(process.versions.node, 10) >= 24) {
  module.enableCompileCache(resolve(root, "node_modules/.cache/node"));
  await import("../src/cli.ts");
} else {
  await run("src/cli.ts", args, isClient ? {} : undefined).catch(fail);
}
