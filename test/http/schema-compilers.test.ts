// Schemas are compiled at their first use, by compilers that are handed to Fastify. So what is wrong with one would come
// out late, and is looked for here; and what Fastify does for compilers of its own choice alone is done all the same.
import { Type } from "@fastify/type-provider-typebox";
import Fastify, { type RouteOptions } from "fastify";
import { expect, test } from "vitest";
import { publicProblems } from "../../src/http/problem.ts";
import { registerRoutes } from "../../src/http/routes.ts";
import { AJV_OPTIONS } from "../../src/http/schema-compilers.ts";
import { Fields, answer } from "../../src/http/schemas/kit.ts";
import { Echo, testApp } from "./app.ts";

test("every schema of every route compiles", async () => {
  const routes: RouteOptions[] = [];
  const { app } = await testApp((started, ...rest) => {
    started.addHook("onRoute", (route) => void routes.push(route));
    registerRoutes(started, ...rest);
  });
  // Fastify as it is compiles all of them before it is ready.
  const eager = Fastify({ ajv: { customOptions: AJV_OPTIONS }, exposeHeadRoutes: false });
  for (const component of Object.values(app.getSchemas())) eager.addSchema(component);
  for (const { method, url, schema = {} } of routes)
    eager.route({ method, url, schema, handler: () => null });
  await eager.ready();
  expect(routes.length).toBeGreaterThan(80);
  // Those that are there before: they take nothing, and each has one answer.
  for (const url of ["/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml", "/docs"])
    expect([url, (await app.inject({ url })).statusCode]).toEqual([url, 200]);
  await Promise.all([eager.close(), app.close()]);
});

test("headers are validated by any spelling of their names, and told by name; the required ones too", async () => {
  const { app } = await testApp((started) => {
    started.route({
      method: "GET",
      url: "/headers",
      config: { action: "public" },
      schema: {
        operationId: "getHeaders",
        tags: ["Settings"],
        summary: "A test's",
        headers: Type.Object({
          "If-Match": Type.String({ maxLength: 4 }),
          "X-Word": Type.Optional(Type.String({ pattern: "^[a-z]*$" })),
        }),
        response: { 200: answer("It went well.", Echo), ...publicProblems() },
      },
      handler: async () => ({ text: "a" }),
    });
  });
  const told = async (headers: Record<string, string>) => {
    const { statusCode, payload } = await app.inject({ url: "/headers", headers });
    return [statusCode, JSON.parse(payload).errors?.map(({ pointer }: { pointer: string }) => pointer)];
  };
  expect(await told({})).toEqual([400, ["/if-match"]]);
  expect(await told({ "if-match": "long!" })).toEqual([400, ["/if-match"]]);
  expect(await told({ "If-Match": "a", "x-word": "B" })).toEqual([400, ["/x-word"]]);
  expect(await told({ "IF-MATCH": "a", "X-Word": "b" })).toEqual([200, undefined]);
  await app.close();
});

test("one that does not is a fault of the broker's at each request, and no other route's", async () => {
  const route = (pattern: string) => ({
    config: { action: "public" as const },
    schema: {
      operationId: `post${pattern.length}`,
      tags: ["Settings"],
      summary: "A test's",
      body: Fields({ name: Type.String({ pattern }) }),
      response: { 200: answer("It went well.", Echo), ...publicProblems() },
    },
    handler: async () => ({ text: "a" }),
  });
  const { app } = await testApp((started) => {
    started.route({ method: "POST", url: "/broken", ...route("(") });
    started.route({ method: "POST", url: "/whole", ...route("^a$") });
  });
  const post = async (url: string) =>
    (await app.inject({ method: "POST", url, payload: { name: "a" } })).statusCode;
  expect([await post("/broken"), await post("/whole"), await post("/broken")]).toEqual([500, 200, 500]);
  await app.close();
});
