// Makes dist/: JavaScript with its declarations, by the repository's compiler. `npm pack` runs it first.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const tsc = join(here, "../../node_modules/typescript/bin/tsc");
rmSync(join(here, "dist"), { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [tsc, "--project", here], { stdio: "inherit" });
process.exitCode = status ?? 1;
