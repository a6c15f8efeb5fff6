// OAuth 2.0: POST /auth/token signs a service account or a foreign identity in, and the well-known documents say with
// which keys. Failures of the token endpoint are OAuth's (oauth.ts).
import type { SigningKeys } from "../../auth/signing-keys.ts";
import type { Broker } from "../../domain/broker.ts";
import { BrokerError, badInput } from "../../domain/errors.ts";
import type { AccessTokens } from "../access-tokens.ts";
import type { App } from "../app.ts";
import { contextOf } from "../authenticate.ts";
import { countOf } from "../connection.ts";
import { idOf } from "../input.ts";
import { OAUTH_FAILURES } from "../oauth.ts";
import { basicOf } from "../parsing.ts";
import { publicProblems } from "../problem.ts";
import { answer } from "../schemas/kit.ts";
import * as S from "../schemas/sign-in.ts";

export type SignInDeps = {
  readonly accessTokens: AccessTokens;
  readonly signingKeys: Pick<SigningKeys, "published">;
  /** Where clients reach the broker, if that is known. */
  readonly publicUrl: string | null;
};

type Form = {
  readonly [Name in
    | "grant_type"
    | "client_id"
    | "client_secret"
    | "subject_token"
    | "subject_token_type"
    | "requested_token_type"
    | "actor_token"
    | "scope"]?: string;
};

const config = { action: "public" } as const;
const NO_STORE = {
  "Cache-Control": { type: "string", description: "`no-store`." },
  Pragma: { type: "string", description: "`no-cache`." },
};
const CACHED = "public, max-age=300";
const secondsOf = (time: Date): number => Math.floor(time.getTime() / 1_000);

export function signInRoutes(app: App, broker: Broker, deps: SignInDeps): void {
  const { accessTokens, signingKeys, publicUrl } = deps;
  const tags = ["Authentication"];

  app.post(
    "/auth/token",
    {
      config,
      schema: {
        operationId: "getAccessToken",
        tags,
        summary: "Get an access token (OAuth 2.0)",
        description:
          "`client_credentials`: a service account's id and one of its API tokens, in the form or by HTTP Basic. " +
          "Token exchange (RFC 8693): a token of an identity provider; with `client_id` a workload becomes that service " +
          "account, without it a person of one of the instance's own identity providers signs in. The answer is a JWT, " +
          "good for at most 15 minutes and never for longer than what it was had for.",
        security: [],
        consumes: ["application/x-www-form-urlencoded"],
        body: S.TokenForm,
        response: {
          200: answer("An access token.", S.AccessTokenAnswer, { headers: NO_STORE }),
          ...OAUTH_FAILURES,
        },
      },
    },
    async (request, reply) => {
      const form: Form = request.body;
      const { authorization } = request.headers;
      if (countOf(request.raw.rawHeaders, "authorization") > 1)
        throw new BrokerError("invalid_request", "The request has more than one Authorization header.");
      const context = contextOf(request);
      const scope = form.scope ?? null;
      const isExchange = form.grant_type === S.TOKEN_EXCHANGE;
      const signer = () => accessTokens.signer();
      const { claims, text } = isExchange
        ? await broker.exchangeToken(context, { ...exchangeOf(form, authorization), scope }, signer)
        : await broker.clientCredentials(context, { ...clientOf(form, authorization), scope }, signer);
      const { issued_at, expires_at, scopes } = claims;
      reply.header("pragma", "no-cache");
      return {
        access_token: text,
        ...(isExchange ? { issued_token_type: S.ACCESS_TOKEN_TYPE } : {}),
        token_type: "Bearer" as const,
        expires_in: secondsOf(expires_at) - secondsOf(issued_at),
        scope: scopes.join(" "),
      };
    },
  );

  app.get(
    "/.well-known/jwks.json",
    {
      config,
      schema: {
        operationId: "getSigningKeys",
        tags,
        summary: "The keys of access tokens",
        description: "Public keys alone. A key that was replaced stays until all that it signed has expired.",
        security: [],
        response: { 200: answer("The keys.", S.SigningKeySet), ...publicProblems(503) },
      },
    },
    async (_request, reply) => {
      const { keys } = await signingKeys.published();
      reply.header("cache-control", CACHED);
      return {
        keys: keys.map(({ kty = "", crv = "", x = "", kid = "", alg = "", use = "" }) => ({
          kty,
          crv,
          x,
          kid,
          alg,
          use,
        })),
      };
    },
  );

  app.get(
    "/.well-known/oauth-authorization-server",
    {
      config,
      schema: {
        operationId: "getAuthorizationServer",
        tags,
        summary: "OAuth 2.0 metadata",
        description:
          "As RFC 8414 has it. 404 where the broker was not told its own address (`COFFER_PUBLIC_URL`).",
        security: [],
        response: { 200: answer("The metadata.", S.ServerMetadata), ...publicProblems(404) },
      },
    },
    async (_request, reply) => {
      if (publicUrl === null)
        throw new BrokerError("not_found", "This broker was not told its own address (COFFER_PUBLIC_URL).");
      reply.header("cache-control", CACHED);
      return {
        issuer: accessTokens.issuer,
        token_endpoint: `${publicUrl}/auth/token`,
        jwks_uri: `${publicUrl}/.well-known/jwks.json`,
        grant_types_supported: [S.CLIENT_CREDENTIALS, S.TOKEN_EXCHANGE],
        response_types_supported: [],
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      };
    },
  );
}

function bad(name: string, detail: string): BrokerError {
  return badInput("invalid_request", "body", `/${name}`, detail);
}

/** Who the client says it is. What is missing is refused like what is wrong: by the gate, which counts it. */
function clientOf(
  form: Form,
  authorization: string | undefined,
): { client_id: string; client_secret: string } {
  if (form.grant_type === undefined) throw bad("grant_type", "grant_type is missing.");
  if (form.grant_type !== S.CLIENT_CREDENTIALS)
    throw new BrokerError(
      "unsupported_grant_type",
      `grant_type is ${S.CLIENT_CREDENTIALS} or ${S.TOKEN_EXCHANGE}.`,
    );
  const { client_id = "", client_secret = "" } = form;
  if (authorization === undefined) return { client_id: idOf(client_id), client_secret };
  const basic = basicOf(authorization);
  if (basic.id.length > S.CLIENT_ID_LENGTH_MAX) throw bad("client_id", "client_id is too long.");
  if (client_secret !== "" || (client_id !== "" && idOf(client_id) !== idOf(basic.id)))
    throw bad("client_secret", "The client's credentials come by HTTP Basic or in the form, not both.");
  return { client_id: idOf(basic.id), client_secret: basic.secret };
}

function exchangeOf(
  form: Form,
  authorization: string | undefined,
): { client_id: string | null; subject_token: string } {
  const { client_id, subject_token, subject_token_type: type, requested_token_type: requested } = form;
  if (authorization !== undefined || form.client_secret !== undefined)
    throw bad("client_secret", "A token exchange takes no secret: the subject token says who it is.");
  if (form.actor_token !== undefined) throw bad("actor_token", "There is no acting for another here.");
  if (subject_token === undefined) throw bad("subject_token", "subject_token is missing.");
  if (!S.SUBJECT_TOKEN_TYPES.some((each) => each === type))
    throw bad("subject_token_type", `subject_token_type is ${S.SUBJECT_TOKEN_TYPES.join(" or ")}.`);
  if (requested !== undefined && requested !== S.ACCESS_TOKEN_TYPE)
    throw bad("requested_token_type", `requested_token_type is ${S.ACCESS_TOKEN_TYPE}.`);
  return { client_id: client_id === undefined ? null : idOf(client_id), subject_token };
}
