// An application over a stub broker, for what the HTTP layer promises by itself: no database, no use cases.
import { Type } from "@fastify/type-provider-typebox";
import { tokenMaker } from "../../src/auth/api-token.ts";
import type { Broker } from "../../src/domain/broker.ts";
import { type App, type AppDeps, type RegisterRoutes, buildApp } from "../../src/http/app.ts";
import { createLogger } from "../../src/http/logging.ts";
import { createMetrics } from "../../src/http/metrics.ts";
import { problems } from "../../src/http/problem.ts";
import { Fields, answer } from "../../src/http/schemas/kit.ts";
import { NO_SHEDDING } from "../../src/http/shedding.ts";

/** Thrown, sent or stored as a stand-in for a secret: it must never come out anywhere. */
export const CANARY = "canary-7f3a9c-secret";

export type TestApp = {
  readonly app: App;
  /** A well-formed token, and the header that presents it. */
  readonly token: string;
  readonly auth: { readonly authorization: string };
  /** All that was logged so far. */
  readonly log: () => string;
  /** How often the broker was asked who calls. */
  readonly identified: () => number;
};

type Stub = { readonly [name: string]: unknown };

export async function testApp(
  register: RegisterRoutes,
  deps: Partial<AppDeps> = {},
  stub: Stub = {},
): Promise<TestApp> {
  const lines: string[] = [];
  let asked = 0;
  let ids = 0;
  const identify = async (caller: unknown): Promise<void> => {
    asked += 1;
    await (stub["identify"] as ((caller: unknown) => Promise<void>) | undefined)?.(caller);
  };
  const { token } = tokenMaker.newToken();
  const app = await buildApp(
    {
      broker: { ...stub, identify } as unknown as Broker,
      logger: createLogger("trace", { write: (line) => void lines.push(line) }),
      limits: {
        unitsPerSecond: 1_000,
        publicPerSecond: 1_000,
        tokenlessPerSecond: 1_000,
        addressPerSecond: 0,
      },
      shedding: NO_SHEDDING,
      health: async () => ({ database: "ok", audit: "ok", managers: { local: "ok" } }),
      metrics: createMetrics({ ofProcess: false }),
      signingKeys: {
        make: () => Promise.reject(new Error("no keys here")),
        reseal: () => null,
        current: () => Promise.reject(new Error("no keys here")),
        find: async () => undefined,
        published: async () => ({ keys: [] }),
      },
      trustProxy: false,
      version: "0.0.0",
      publicUrl: null,
      clock: { now: () => new Date() },
      newId: () => `00000000-0000-7000-8000-${String(++ids).padStart(12, "0")}`,
      silenceSeconds: 60,
      drainSeconds: 1,
      ...deps,
    },
    register,
  );
  return {
    app,
    token,
    auth: { authorization: `Bearer ${token}` },
    log: () => lines.join(""),
    identified: () => asked,
  };
}

export const Body = Fields({
  name: Type.String({ maxLength: 10, pattern: "^[a-z]*$" }),
  size: Type.Optional(Type.Integer({ minimum: 1 })),
  labels: Type.Optional(
    Type.Unsafe<Record<string, string>>({ type: "object", additionalProperties: { type: "string" } }),
  ),
});

export const Echo = Fields({ text: Type.String() });

/** One route of each kind; what it answers is up to the test. */
export function route(
  method: "GET" | "POST" | "PATCH" | "DELETE",
  url: string,
  handle: (request: never) => unknown,
) {
  return (app: App): void => {
    app.route({
      method,
      url,
      config: { action: "list" },
      schema: {
        operationId: `${method.toLowerCase()}${url.replaceAll(/[^a-z]/g, "")}`,
        tags: ["Settings"],
        summary: "A test's",
        querystring: Fields({
          count: Type.Optional(Type.Integer()),
          flag: Type.Optional(Type.Boolean()),
          word: Type.Optional(Type.String({ enum: ["one", "two"] })),
        }),
        ...(url.includes(":id") ? { params: Fields({ id: Type.String() }) } : {}),
        ...(method === "POST" || method === "PATCH" ? { body: Body } : {}),
        ...(method === "PATCH" ? { consumes: ["application/json", "application/merge-patch+json"] } : {}),
        response: { 200: answer("It went well.", Echo), ...problems(404) },
      },
      handler: async (request) => handle(request as never) as { text: string },
    });
  };
}
