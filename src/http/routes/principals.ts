// Users and service accounts, and who the caller is.
import { parseOwner, parsePathQuery } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import { placeOf } from "../../domain/settings-read.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, idOf, pageOf } from "../input.ts";
import { problems } from "../problem.ts";
import { PageQuery, PurgeQuery } from "../schemas/common.ts";
import { LOCATION, answer, empty } from "../schemas/kit.ts";
import { OrganizationParams } from "../schemas/owners.ts";
import * as ServiceAccounts from "../schemas/service-accounts.ts";
import * as Standings from "../schemas/standings.ts";
import * as Users from "../schemas/users.ts";

export function principalsRoutes(app: App, broker: Broker): void {
  selfRoutes(app, broker);
  userRoutes(app, broker);
  serviceAccountRoutes(app, broker);
}

function selfRoutes(app: App, broker: Broker): void {
  app.get(
    "/auth/me",
    {
      config: { action: "identify" },
      schema: {
        operationId: "getMe",
        tags: ["Authentication"],
        summary: "Who the caller is",
        response: { 200: answer("The caller.", Standings.Me), ...problems() },
      },
    },
    async (request) => broker.me(callerOf(request)),
  );

  app.get(
    "/access",
    {
      config: { action: "identify" },
      schema: {
        operationId: "checkAccess",
        tags: ["Authentication"],
        summary: "Ask whether something would be allowed",
        description: "For oneself; for another principal whoever may `manage` there.",
        querystring: Standings.AccessQuery,
        response: { 200: answer("The decision.", Standings.Access), ...problems(422) },
      },
    },
    async (request) => {
      const { owner_type, owner_id, path, action, principal_id } = request.query;
      const input = {
        owner: parseOwner(owner_type, owner_id),
        path: placeOf(parsePathQuery(path)),
        action,
        principal_id: principal_id === undefined ? undefined : idOf(principal_id),
      };
      return broker.access(callerOf(request), given(input));
    },
  );
}

function userRoutes(app: App, broker: Broker): void {
  const tags = ["Users"];
  const config = { action: "administer" } as const;

  app.post(
    "/users",
    {
      config,
      schema: {
        operationId: "createUser",
        tags,
        summary: "Make a user",
        description:
          "Answers an enrolment code to hand over: it is good for the user's first token, and shown this once.",
        body: Users.CreateUserBody,
        response: {
          201: answer("The new user.", Users.CreatedUser, { headers: LOCATION }),
          ...problems(409, 413, 415),
        },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const email = body.email?.toLowerCase() ?? null;
      // The schema asks for one of the two.
      const made = await broker.createUser(callerOf(request), { name: body.name ?? email ?? "", email });
      return reply.code(201).header("location", `/users/${made.id}`).send(made);
    },
  );

  app.get(
    "/users",
    {
      config,
      schema: {
        operationId: "listUsers",
        tags,
        summary: "List users, or find one by email",
        description: "For instance admins; with `email`, exact, also for whoever owns an organization.",
        querystring: Users.UserQuery,
        response: { 200: answer("The users.", Users.UserPage), ...problems() },
      },
    },
    async (request) => {
      const { email } = request.query;
      return broker.users(
        callerOf(request),
        given({ ...pageOf(request.query), email: email?.toLowerCase() }),
      );
    },
  );

  app.get(
    "/users/:user_id",
    {
      config,
      schema: {
        operationId: "getUser",
        tags,
        summary: "Get a user",
        params: Users.UserParams,
        response: { 200: answer("The user.", Users.User), ...problems(404) },
      },
    },
    async (request) => broker.user(callerOf(request), idOf(request.params.user_id)),
  );

  app.patch(
    "/users/:user_id",
    {
      config,
      schema: {
        operationId: "patchUser",
        tags,
        summary: "Change a user",
        description: "Disabling refuses all of the user's tokens at once. The last admin stays one.",
        consumes: ["application/json", "application/merge-patch+json"],
        params: Users.UserParams,
        body: Users.PatchUserBody,
        response: { 200: answer("The user as it is now.", Users.User), ...problems(404, 409, 413, 415) },
      },
    },
    async (request) => broker.patchUser(callerOf(request), idOf(request.params.user_id), given(request.body)),
  );

  app.delete(
    "/users/:user_id",
    {
      config,
      schema: {
        operationId: "deleteUser",
        tags,
        summary: "Delete a user",
        description: "With the user's own settings, of which there must be none unless `purge=true`.",
        params: Users.UserParams,
        querystring: PurgeQuery,
        response: { 204: empty("Deleted."), ...problems(404, 409, 413, 415) },
      },
    },
    async (request, reply) => {
      await broker.removeUser(callerOf(request), idOf(request.params.user_id), request.query.purge ?? false);
      return reply.code(204).send();
    },
  );
}

function serviceAccountRoutes(app: App, broker: Broker): void {
  const tags = ["Service accounts"];
  const config = { action: "manage" } as const;

  app.post(
    "/organizations/:organization_id/service-accounts",
    {
      config,
      schema: {
        operationId: "createServiceAccount",
        tags,
        summary: "Make a service account",
        description:
          "It has no role yet; give it one as a member. `scopes` is a ceiling on whatever it obtains.",
        params: OrganizationParams,
        body: ServiceAccounts.CreateServiceAccountBody,
        response: {
          201: answer("The new service account.", ServiceAccounts.ServiceAccount, { headers: LOCATION }),
          ...problems(404, 409, 413, 415, 422),
        },
      },
    },
    async (request, reply) => {
      const { params, body } = request;
      const made = await broker.createServiceAccount(
        callerOf(request),
        idOf(params.organization_id),
        given(body),
      );
      return reply.code(201).header("location", `/service-accounts/${made.id}`).send(made);
    },
  );

  app.get(
    "/organizations/:organization_id/service-accounts",
    {
      config,
      schema: {
        operationId: "listServiceAccounts",
        tags,
        summary: "List an organization's service accounts",
        params: OrganizationParams,
        querystring: PageQuery,
        response: { 200: answer("The service accounts.", ServiceAccounts.ServiceAccountPage), ...problems() },
      },
    },
    async (request) => {
      const { params, query } = request;
      return broker.serviceAccounts(callerOf(request), idOf(params.organization_id), pageOf(query));
    },
  );

  app.get(
    "/service-accounts/:service_account_id",
    {
      config,
      schema: {
        operationId: "getServiceAccount",
        tags,
        summary: "Get a service account",
        params: ServiceAccounts.ServiceAccountParams,
        response: { 200: answer("The service account.", ServiceAccounts.ServiceAccount), ...problems(404) },
      },
    },
    async (request) => broker.serviceAccount(callerOf(request), idOf(request.params.service_account_id)),
  );

  app.patch(
    "/service-accounts/:service_account_id",
    {
      config,
      schema: {
        operationId: "patchServiceAccount",
        tags,
        summary: "Change a service account",
        consumes: ["application/json", "application/merge-patch+json"],
        params: ServiceAccounts.ServiceAccountParams,
        body: ServiceAccounts.PatchServiceAccountBody,
        response: {
          200: answer("The service account as it is now.", ServiceAccounts.ServiceAccount),
          ...problems(404, 409, 413, 415, 422),
        },
      },
    },
    async (request) => {
      const { params, body } = request;
      return broker.patchServiceAccount(callerOf(request), idOf(params.service_account_id), given(body));
    },
  );

  app.delete(
    "/service-accounts/:service_account_id",
    {
      config,
      schema: {
        operationId: "deleteServiceAccount",
        tags,
        summary: "Delete a service account",
        description: "With its tokens and roles.",
        params: ServiceAccounts.ServiceAccountParams,
        response: { 204: empty("Deleted."), ...problems(404, 409, 413, 415) },
      },
    },
    async (request, reply) => {
      await broker.removeServiceAccount(callerOf(request), idOf(request.params.service_account_id));
      return reply.code(204).send();
    },
  );
}
