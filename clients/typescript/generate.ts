// Writes src/generated/api.ts, the client's types, from openapi.yaml. Set-up runs it by itself when openapi.yaml or
// this file has changed; nothing of it is committed.
import { mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generate } from "openapi-typescript-codegen";

const here = fileURLToPath(new URL(".", import.meta.url));
const API = join(here, "../../openapi.yaml");
const OUT = join(here, "src/generated");

/** One module with a type for each schema. The generator writes a module for each; nobody wants sixty empty files. */
async function typesOf(api: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "coffer-types-"));
  try {
    await generate({
      input: api,
      output: folder,
      exportCore: false,
      exportServices: false,
      exportSchemas: false,
      useUnionTypes: true,
    });
    const models = join(folder, "models");
    const names = (await readdir(models)).toSorted();
    const texts = await Promise.all(names.map((name) => readFile(join(models, name), "utf8")));
    const types = texts.map((text) =>
      opened(text.replaceAll(/^(?:\/\* .* \*\/|import type .*;)\n/gm, "").trim()),
    );
    return ["// Made by generate.ts from openapi.yaml; do not edit.", ...types, ""].join("\n\n");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What is documented as an open list takes words of a later broker as well. */
function opened(text: string): string {
  return text.replaceAll(
    /(An open list: (?:(?!\*\/)[^])*\*\/\n\s+\w+\??: (?:'\w+'(?: \| )?)+)/g,
    "$1 | (string & {})",
  );
}

const types = await typesOf(API);
await mkdir(OUT, { recursive: true });
// Put in place whole: a type checker may be reading at this moment.
await writeFile(join(OUT, `api.${process.pid}`), types);
await rename(join(OUT, `api.${process.pid}`), join(OUT, "api.ts"));
