// openapi.yaml's text, from an application whose routes are never called.
import { createSigningKeys } from "./auth/signing-keys.ts";
import { appSettings } from "./compose.ts";
import type { Config } from "./config.ts";
import type { Broker } from "./domain/broker.ts";
import { buildApp } from "./http/app.ts";
import { createLogger } from "./http/logging.ts";
import { createMetrics } from "./http/metrics.ts";
import { renderOpenapi } from "./http/openapi.ts";
import { registerRoutes } from "./http/routes.ts";

function absent(): never {
  throw new Error("there is no key");
}

export async function openapiDocument(config: Config): Promise<string> {
  const settings = appSettings(config);
  const broker = new Proxy({} as Broker, {
    get: () => () => Promise.reject(new Error("there is no broker")),
  });
  const app = await buildApp(
    {
      ...settings,
      broker,
      logger: createLogger("silent"),
      metrics: createMetrics({ ofProcess: false }),
      signingKeys: createSigningKeys(
        async () => [],
        { seal: absent, open: absent, reseal: absent },
        settings.clock,
        settings.newId,
      ),
      health: () => Promise.reject(new Error("there is no database")),
    },
    registerRoutes,
  );
  return renderOpenapi(app);
}
