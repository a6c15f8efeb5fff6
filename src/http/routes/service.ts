// The broker about itself: health, metrics, and its own description. No token is needed, so nothing here names an
// owner, a path or a caller; and nobody can make it work harder than once at a time.
import { createHash } from "node:crypto";
import { Type } from "../schemas/type.ts";
import type { App } from "../app.ts";
import type { Contract } from "../contract.ts";
import { DOCS_STYLE, renderDocs } from "../docs.ts";
import type { Metrics } from "../metrics.ts";
import { openapiOf, renderOpenapi } from "../openapi.ts";
import { publicProblems } from "../problem.ts";
import { Fields, Instead, OpenOneOf, answer, component } from "../schemas/kit.ts";

export type Check = "ok" | "unavailable";
export type Checks = {
  readonly database: Check;
  readonly audit: Check;
  readonly managers: Readonly<Record<string, Check>>;
};
/** Finds out what the broker stands on. It may take its time and may fail. */
export type CheckHealth = () => Promise<Checks>;

export type ServiceDeps = {
  readonly health: CheckHealth;
  readonly metrics: Metrics;
  readonly contract: Contract;
  readonly version: string;
};

const CHECK_MILLISECONDS_MAX = 2_000;
const UNKNOWN: Checks = { database: "unavailable", audit: "unavailable", managers: {} };

const tags = ["Service"];
const config = { action: "public" } as const;
const Word = OpenOneOf(["ok", "unavailable"]);

const Health = component(
  "Health",
  Fields({ status: OpenOneOf(["ok"]) }, { description: "The process lives.", examples: [{ status: "ok" }] }),
);
const Readiness = component(
  "Readiness",
  Fields(
    {
      status: Word,
      checks: Fields({
        database: Word,
        audit: Word,
        managers: Type.Unsafe<Readonly<Record<string, Check>>>({
          type: "object",
          additionalProperties: Word,
        }),
      }),
    },
    {
      description: "What the broker stands on.",
      examples: [{ status: "ok", checks: { database: "ok", audit: "ok", managers: { local: "ok" } } }],
    },
  ),
);
const away = {
  status: "unavailable",
  checks: { database: "unavailable", audit: "ok", managers: { local: "ok" } },
};
const RETRY_AFTER = { "Retry-After": { type: "integer", description: "Seconds to wait." } };

/** Sent as the text that it is made of once; for clients it is an object. */
const DOCUMENT = Instead(Type.String(), { type: "object", additionalProperties: true });

/** A body that is text of some media type. */
function text(description: string, type: string, example: string) {
  return { description, content: { [type]: { schema: { type: "string" }, example } } };
}

export function serviceRoutes(app: App, { health, metrics, contract, version }: ServiceDeps): void {
  const document = once(() => openapiOf(contract, version));
  app.decorate("openapi", document);
  const yaml = once(() => renderOpenapi(app));
  const json = once(() => JSON.stringify(document()));
  const docs = once(() => renderDocs(document()));
  const check = oneAtATime(() => within(CHECK_MILLISECONDS_MAX, health));

  app.get(
    "/healthz",
    {
      config,
      schema: {
        operationId: "getHealth",
        tags,
        summary: "Whether the process lives",
        response: { 200: answer("It does.", Health), ...publicProblems() },
      },
    },
    async () => ({ status: "ok" as const }),
  );

  app.get(
    "/readyz",
    {
      config,
      schema: {
        operationId: "getReadiness",
        tags,
        summary: "Whether the broker can do its work",
        response: {
          200: answer("It can.", Readiness),
          ...publicProblems(),
          503: answer("It cannot now.", Readiness, { headers: RETRY_AFTER, examples: { away } }),
        },
      },
    },
    async (_request, reply) => {
      const checks = await check();
      const good = [checks.database, checks.audit, ...Object.values(checks.managers)].every(
        (each) => each === "ok",
      );
      if (!good) reply.code(503).header("retry-after", "2");
      return { status: good ? ("ok" as const) : ("unavailable" as const), checks };
    },
  );

  app.get(
    "/metrics",
    {
      config,
      schema: {
        operationId: "getMetrics",
        tags,
        summary: "Prometheus metrics",
        response: {
          200: text("The metrics.", "text/plain", "coffer_values_opened_total 12"),
          ...publicProblems(),
        },
      },
    },
    async (_request, reply) => {
      const written = await metrics.registry.metrics();
      return reply.type(metrics.registry.contentType).send(written);
    },
  );

  app.get(
    "/openapi.json",
    {
      config,
      schema: {
        operationId: "getOpenapiJson",
        tags,
        summary: "This description, as JSON",
        response: {
          200: {
            description: "An OpenAPI document.",
            content: { "application/json": { schema: DOCUMENT, example: { openapi: "3.0.3" } } },
          },
          ...publicProblems(),
        },
      },
    },
    async (_request, reply) => reply.header("cache-control", CACHED).type("application/json").send(json()),
  );

  app.get(
    "/openapi.yaml",
    {
      config,
      schema: {
        operationId: "getOpenapiYaml",
        tags,
        summary: "This description, as YAML",
        response: {
          200: text("An OpenAPI document.", "application/yaml", "openapi: 3.0.3"),
          ...publicProblems(),
        },
      },
    },
    async (_request, reply) =>
      reply
        .header("cache-control", CACHED)
        .type("application/yaml")
        .send(await yaml()),
  );

  app.get(
    "/docs",
    {
      config,
      schema: {
        operationId: "getDocs",
        tags,
        summary: "This description, for people",
        response: { 200: text("A page.", "text/html", "<!doctype html>"), ...publicProblems() },
      },
    },
    async (_request, reply) =>
      reply
        .header("cache-control", CACHED)
        .header("content-security-policy", DOCS_POLICY)
        .type("text/html; charset=utf-8")
        .send(docs()),
  );
}

const CACHED = "public, max-age=300";
/** The page's own style and nothing else: no script, nothing from elsewhere. */
const DOCS_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(DOCS_STYLE).digest("base64")}'`,
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
].join("; ");

function once<Made>(make: () => Made): () => Made {
  let made: { readonly value: Made } | null = null;
  return () => (made ??= { value: make() }).value;
}

/** Whoever asks while an answer is under way gets that one. */
function oneAtATime<Made>(make: () => Promise<Made>): () => Promise<Made> {
  let underWay: Promise<Made> | null = null;
  return () => {
    underWay ??= make().finally(() => {
      underWay = null;
    });
    return underWay;
  };
}

/** What a check that fails, or takes too long, found out: that nothing is known to be well. */
async function within(milliseconds: number, health: CheckHealth): Promise<Checks> {
  const { promise, resolve } = Promise.withResolvers<Checks>();
  const timer = setTimeout(() => resolve(UNKNOWN), milliseconds);
  try {
    return await Promise.race([promise, health().catch(() => UNKNOWN)]);
  } finally {
    clearTimeout(timer);
  }
}
