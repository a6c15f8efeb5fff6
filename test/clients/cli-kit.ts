// The `coffer` command as a process of its own: its environment, what goes in, what comes out, how it ends.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const cli = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));

/** What of the tests' own environment it may see: nothing that configures a client or Node. */
export const inherited = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(COFFER_|NODE_|VITEST|MALLOC_)/.test(name)),
);

export type Ended = { readonly code: number | null; readonly stdout: Buffer; readonly stderr: string };
export type Started = {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves once this is in its standard output. */
  readonly said: (text: string) => Promise<void>;
};
type Options = {
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly program?: readonly string[];
};
export type Environment = Readonly<Record<string, string>>;

export function startCoffer(
  args: readonly string[],
  environment: Environment,
  options: Options = {},
): Started {
  const { input = "", cwd, program = [process.execPath, cli] } = options;
  const [file = "", ...before] = program;
  const child = spawn(file, [...before, ...args], {
    env: { ...inherited, ...environment },
    stdio: "pipe",
    ...(cwd === undefined ? {} : { cwd }),
  });
  const chunks: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  // A command that does not read its input may be gone before all of it is written.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const ended = once(child, "close").then(
    ([code]): Ended => ({ code, stdout: Buffer.concat(chunks), stderr }),
  );
  const said = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (Buffer.concat(chunks).includes(text)) resolve();
      };
      child.stdout.on("data", look);
      void ended.then(({ code }) => reject(new Error(`it ended (${code}): ${stderr}`)));
      look();
    });
  return { child, ended, said };
}

/** Runs it to its end; its standard output as text. */
export async function coffer(args: readonly string[], environment: Environment, options: Options = {}) {
  const { code, stdout, stderr } = await startCoffer(args, environment, options).ended;
  return { code, stdout: stdout.toString(), stderr };
}

/** A command that runs this JavaScript. */
export function script(text: string): readonly string[] {
  return ["--", process.execPath, "-e", text];
}
