// An organization's identity providers: whose tokens its workloads sign in with.
import type { Static } from "typebox";
import { isSecret } from "../../auth/public-keys.ts";
import type { Broker } from "../../domain/broker.ts";
import { badInput } from "../../domain/errors.ts";
import type { IdentityProviderInput } from "../../domain/identity-providers.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { idOf, pageOf } from "../input.ts";
import { problems } from "../problem.ts";
import { PageQuery } from "../schemas/common.ts";
import * as S from "../schemas/identity-providers.ts";
import { LOCATION, answer, empty } from "../schemas/kit.ts";
import { OrganizationParams } from "../schemas/owners.ts";

export function identityProvidersRoutes(app: App, broker: Broker): void {
  const tags = ["Identity providers"];
  const config = { action: "manage" } as const;

  app.post(
    "/organizations/:organization_id/identity-providers",
    {
      config,
      schema: {
        operationId: "createIdentityProvider",
        tags,
        summary: "Register an identity provider",
        description:
          "Its tokens then sign workloads in at `POST /auth/token`, as the bindings say. Takes a token without scopes.",
        params: OrganizationParams,
        body: S.IdentityProviderBody,
        response: {
          201: answer("The identity provider.", S.IdentityProvider, { headers: LOCATION }),
          ...problems(409, 413, 415, 422),
        },
      },
    },
    async (request, reply) => {
      const organizationId = idOf(request.params.organization_id);
      const made = await broker.createIdentityProvider(
        callerOf(request),
        organizationId,
        inputOf(request.body),
      );
      return reply
        .code(201)
        .header("location", `/organizations/${organizationId}/identity-providers/${made.id}`)
        .send(made);
    },
  );

  app.get(
    "/organizations/:organization_id/identity-providers",
    {
      config,
      schema: {
        operationId: "listIdentityProviders",
        tags,
        summary: "List identity providers",
        params: OrganizationParams,
        querystring: PageQuery,
        response: { 200: answer("The identity providers.", S.IdentityProviderPage), ...problems() },
      },
    },
    async (request) => {
      const organizationId = idOf(request.params.organization_id);
      return broker.identityProviders(callerOf(request), organizationId, pageOf(request.query));
    },
  );

  app.get(
    "/organizations/:organization_id/identity-providers/:identity_provider_id",
    {
      config,
      schema: {
        operationId: "getIdentityProvider",
        tags,
        summary: "Get an identity provider",
        params: S.IdentityProviderParams,
        response: { 200: answer("The identity provider.", S.IdentityProvider), ...problems(404) },
      },
    },
    async (request) => broker.identityProvider(callerOf(request), ...idsOf(request.params)),
  );

  app.put(
    "/organizations/:organization_id/identity-providers/:identity_provider_id",
    {
      config,
      schema: {
        operationId: "replaceIdentityProvider",
        tags,
        summary: "Replace an identity provider",
        description: "Whole. It ends at once every access token that was had through it.",
        params: S.IdentityProviderParams,
        body: S.IdentityProviderBody,
        response: {
          200: answer("The identity provider as it is now.", S.IdentityProvider),
          ...problems(404, 413, 415, 422),
        },
      },
    },
    async (request) => {
      const ids = idsOf(request.params);
      return broker.putIdentityProvider(callerOf(request), ...ids, inputOf(request.body));
    },
  );

  app.delete(
    "/organizations/:organization_id/identity-providers/:identity_provider_id",
    {
      config,
      schema: {
        operationId: "removeIdentityProvider",
        tags,
        summary: "Remove an identity provider",
        description: "It ends at once every access token that was had through it.",
        params: S.IdentityProviderParams,
        response: { 204: empty("Removed."), ...problems(404, 413, 415) },
      },
    },
    async (request, reply) => {
      await broker.removeIdentityProvider(callerOf(request), ...idsOf(request.params));
      return reply.code(204).send();
    },
  );
}

function idsOf(params: { readonly organization_id: string; readonly identity_provider_id: string }) {
  return [idOf(params.organization_id), idOf(params.identity_provider_id)] as const;
}

type Body = Static<typeof S.IdentityProviderBody>;

function inputOf({ issuer, audience, jwks_uri = null, jwks = null, bindings }: Body): IdentityProviderInput {
  return {
    issuer,
    audience,
    jwks_uri,
    jwks: jwks === null ? null : { keys: jwks.keys.map(publicPart) },
    bindings: bindings.map(({ claims, match = "exact", service_account_id, scopes = null }) => {
      return { claims, match, service_account_id, scopes };
    }),
  };
}

/** The members that are kept. @throws BrokerError for a key that somebody gave away, so that they hear of it */
function publicPart(
  key: Readonly<Record<string, unknown>>,
  index: number,
): Readonly<Record<string, unknown>> {
  if (isSecret(key))
    throw badInput(
      "invalid_value",
      "body",
      `/jwks/keys/${index}`,
      "A key set holds public keys, and no private one.",
    );
  return Object.fromEntries(Object.entries(key).filter(([name]) => S.KEY_MEMBERS.includes(name)));
}
