// A start without a cloud's manager pays nothing for one: neither SDK is loaded, and nothing of either is asked.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { createDatabase } from "../harness/postgres.ts";
import { newHome } from "../harness/process.ts";
import { CLOUDS } from "./clouds.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const PROBE = `
import Module from "node:module";
import { createLogger } from "./src/compose-broker.ts";
import { compose } from "./src/compose.ts";
import { readConfig } from "./src/config.ts";
const service = await compose(readConfig(), createLogger("silent"));
const loaded = Object.keys(Module._cache).filter((file) => /@aws-sdk|@smithy|@google-cloud|@grpc|google-gax/.test(file));
await service.close();
console.log(JSON.stringify([...new Set(loaded.map((file) => /@aws-sdk|@smithy/.test(file) ? "aws" : "gcp"))].toSorted()));
`;

async function loadedBy(environment: Readonly<Record<string, string>>): Promise<string[]> {
  const [database, home] = [await createDatabase(), await newHome()];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", PROBE], {
      cwd: root,
      env: {
        PATH: process.env["PATH"],
        COFFER_HOME: home.path,
        DATABASE_URL: database.url,
        COFFER_MASTER_KEY: randomBytes(32).toString("hex"),
        ...environment,
      },
    });
    return JSON.parse(stdout.split("\n").at(-2) ?? "") as string[];
  } finally {
    await home.remove();
    await database.drop();
  }
}

test("only the SDK of a manager that is configured is loaded", async () => {
  const [aws, gcp] = [await CLOUDS.aws(), await CLOUDS.gcp()];
  try {
    expect(await loadedBy({})).toEqual([]);
    expect(await loadedBy(aws.environment)).toEqual(["aws"]);
    expect(await loadedBy(gcp.environment)).toEqual(["gcp"]);
  } finally {
    await aws.close();
    await gcp.close();
  }
});
