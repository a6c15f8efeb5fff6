// API tokens, and the enrolment code that is changed for the first one.
import type { Broker } from "../../domain/broker.ts";
import type { App } from "../app.ts";
import { callerOf, contextOf } from "../authenticate.ts";
import { given, idOf, pageOf } from "../input.ts";
import { problems, publicProblems } from "../problem.ts";
import { LOCATION, answer, empty } from "../schemas/kit.ts";
import * as S from "../schemas/tokens.ts";

export function tokensRoutes(app: App, broker: Broker): void {
  const tags = ["Tokens"];
  const config = { action: "token" } as const;

  app.post(
    "/tokens",
    {
      config,
      schema: {
        operationId: "createToken",
        tags,
        summary: "Make an API token",
        description:
          "For oneself, as a child of the token that this request is made with: no wider, no longer-lived, within its " +
          "addresses. Or for a service account of an organization that the caller owns. The text is shown this once.",
        body: S.CreateTokenBody,
        response: {
          201: answer("The new token.", S.MadeToken, { headers: LOCATION }),
          ...problems(413, 415, 422),
        },
      },
    },
    async (request, reply) => {
      const { principal_id, ...rest } = request.body;
      const input = given({
        ...rest,
        principal_id: principal_id === undefined ? undefined : idOf(principal_id),
      });
      const made = await broker.createToken(callerOf(request), input);
      return reply.code(201).header("location", `/tokens/${made.id}`).send(made);
    },
  );

  app.get(
    "/tokens",
    {
      config,
      schema: {
        operationId: "listTokens",
        tags,
        summary: "List API tokens",
        description: "One's own, or a service account's.",
        querystring: S.TokenQuery,
        response: { 200: answer("The tokens.", S.TokenPage), ...problems() },
      },
    },
    async (request) => {
      const { principal_id, ...page } = request.query;
      const of = principal_id === undefined ? undefined : idOf(principal_id);
      return broker.tokens(callerOf(request), given({ ...pageOf(page), principal_id: of }));
    },
  );

  app.get(
    "/tokens/:token_id",
    {
      config,
      schema: {
        operationId: "getToken",
        tags,
        summary: "Get an API token",
        params: S.TokenParams,
        response: { 200: answer("The token, without its text.", S.Token), ...problems(404) },
      },
    },
    async (request) => broker.token(callerOf(request), idOf(request.params.token_id)),
  );

  app.delete(
    "/tokens/:token_id",
    {
      config,
      schema: {
        operationId: "revokeToken",
        tags,
        summary: "Revoke an API token",
        description:
          "With its children, on all replicas, before the answer. With `made=true` also those it made for others.",
        params: S.TokenParams,
        querystring: S.RevokeQuery,
        response: { 204: empty("Revoked."), ...problems(404, 413, 415) },
      },
    },
    async (request, reply) => {
      await broker.revokeToken(callerOf(request), idOf(request.params.token_id), request.query.made ?? false);
      return reply.code(204).send();
    },
  );

  app.post(
    "/auth/enrol",
    {
      config: { action: "public" },
      schema: {
        operationId: "enrol",
        tags: ["Authentication"],
        summary: "Change an enrolment code for the first token",
        description: "Needs no token. The code is used up by it, and the token's text is shown this once.",
        security: [],
        body: S.EnrolBody,
        response: {
          201: answer("The user's first token.", S.MadeToken, { headers: LOCATION }),
          ...publicProblems(401, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const made = await broker.enrol(contextOf(request), given(request.body));
      return reply.code(201).header("location", `/tokens/${made.id}`).send(made);
    },
  );
}
