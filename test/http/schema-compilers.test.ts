// Schemas are compiled at their first use. So what is wrong with one would come out late, and is looked for here.
import Fastify, { type RouteOptions } from "fastify";
import { Type } from "@fastify/type-provider-typebox";
import { expect, test } from "vitest";
import { registerRoutes } from "../../src/http/routes.ts";
import { AJV_OPTIONS } from "../../src/http/schema-compilers.ts";
import { publicProblems } from "../../src/http/problem.ts";
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
  await eager.close();
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
