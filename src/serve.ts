// The broker as a process: it starts, says where it listens, and stops at a signal.
import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import type { Config } from "./config.ts";

const STOP_TIMEOUT_MS = 25_000;

/**
 * Serves until it is told to stop.
 * @param print tells a person at the terminal what to do first
 * @returns the exit code
 */
export async function serve(config: Config, print: (text: string) => void): Promise<number> {
  const stopped = stopSignal();
  const { compose } = await import("./compose.ts");
  const { createLogger } = await import("./compose-broker.ts");
  const logger = createLogger(config.logLevel);
  const service = await compose(config, logger);
  try {
    const address = await service.listen();
    // V8's default, which cli.ts keeps off while a broker starts.
    setFlagsFromString("--semi-space-growth-factor=2");
    // Node would write what it compiled only when it exits, which one that is killed never does: with Google's client each
    // start of it took 1.7 s of the processor in place of 1.0. Where all is there already it is a matter of 3 ms.
    flushCompileCache();
    logger.info({ address, public_url: config.publicUrl ?? address }, "coffer is ready");
    if (service.adminTokenFile !== null) print(welcome(address, service.adminTokenFile));
    logger.info({ signal: await stopped }, "stopping");
  } finally {
    // A part that does not end is not waited for: what was acknowledged is in the database by then.
    setTimeout(() => process.exit(1), STOP_TIMEOUT_MS).unref();
    await service.close();
  }
  logger.info("stopped");
  return 0;
}

/** Resolves at the first request to stop; later ones (a terminal's Ctrl-C reaches us more than once) change nothing. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => resolve(signal));
  });
}

function welcome(address: string, tokenFile: string): string {
  return `
Coffer listens on ${address}
The first admin's token is in ${tokenFile}
Try it:

  curl -H "Authorization: Bearer $(cat ${quoted(tokenFile)})" ${address}/auth/me
`;
}

/** As one word for a shell, whatever is in it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
