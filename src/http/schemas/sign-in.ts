// Signing in, and what others need to check our access tokens: what clients send and what they are sent.
import { Type } from "./type.ts";
import { EXAMPLE } from "./common.ts";
import { Fields, Instead, List, OpenOneOf, component } from "./kit.ts";

export const CLIENT_CREDENTIALS = "client_credentials";
export const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token";
export const SUBJECT_TOKEN_TYPES = [
  "urn:ietf:params:oauth:token-type:jwt",
  "urn:ietf:params:oauth:token-type:id_token",
] as const;

const SUBJECT_TOKEN_LENGTH_MAX = 16_384;
/** Bounded, since refusals are counted by it. */
export const CLIENT_ID_LENGTH_MAX = 128;

/** One of some words; another is told in OAuth's own way, not by the schema. */
function Word(words: readonly string[], description: string) {
  return Instead(Type.String({ maxLength: 256 }), { type: "string", enum: words, description });
}

const form = {
  grant_type: Type.Optional(Word([CLIENT_CREDENTIALS, TOKEN_EXCHANGE], "How to sign in.")),
  client_id: Type.Optional(
    Type.String({
      maxLength: CLIENT_ID_LENGTH_MAX,
      description:
        "The service account's id. With `client_credentials` it may come by HTTP Basic instead; an exchange without " +
        "it is a person's.",
      examples: [EXAMPLE.serviceAccount],
    }),
  ),
  client_secret: Type.Optional(
    Type.String({
      maxLength: 256,
      description: "`client_credentials`: an API token of the service account. Or by HTTP Basic, never both.",
      examples: ["cfr_example-token-not-real"],
    }),
  ),
  subject_token: Type.Optional(
    Type.String({
      maxLength: SUBJECT_TOKEN_LENGTH_MAX,
      description: "Exchange: the identity provider's token.",
    }),
  ),
  subject_token_type: Type.Optional(Word(SUBJECT_TOKEN_TYPES, "Exchange: what the subject token is.")),
  requested_token_type: Type.Optional(Word([ACCESS_TOKEN_TYPE], "Exchange: nothing else is to be had.")),
  scope: Type.Optional(
    Type.String({
      maxLength: 8_192,
      description:
        "Scopes with blanks between, `<action>:<owner_type>/<owner_id>[/<path>]`: they only narrow. Absent: all that " +
        "may be had.",
      examples: [EXAMPLE.scope],
    }),
  ),
};
const formExtras = {
  description: "A form. Parameters that OAuth does not name here are passed over, as OAuth wants it.",
  examples: [
    {
      grant_type: TOKEN_EXCHANGE,
      client_id: EXAMPLE.serviceAccount,
      subject_token: "example-jwt-not-real",
      subject_token_type: SUBJECT_TOKEN_TYPES[0],
      scope: EXAMPLE.scope,
    },
  ],
};
/** An actor would be somebody else to act as: refused rather than passed over. */
const actor = { actor_token: Type.Optional(Type.String()), actor_token_type: Type.Optional(Type.String()) };

export const TokenForm = component(
  "TokenForm",
  Instead(Type.Object({ ...form, ...actor }), {
    ...Fields(form),
    ...formExtras,
    additionalProperties: true,
    required: ["grant_type"],
  }),
);

export const AccessTokenAnswer = component(
  "AccessToken",
  Fields(
    {
      access_token: Type.String({ description: "What to send as `Authorization: Bearer`. A JWT." }),
      issued_token_type: Type.Optional(Type.String({ description: "Exchange: what it is." })),
      token_type: OpenOneOf(["Bearer"], { description: "How it is presented." }),
      expires_in: Type.Integer({ description: "Seconds until it expires; at most 900." }),
      scope: Type.String({
        description:
          "The access token's own ceiling, scopes with blanks between. Empty: none of its own; those of the API token " +
          "and of the service account hold all the same.",
      }),
    },
    {
      description: "An access token.",
      examples: [
        {
          access_token: "example-jwt-not-real",
          issued_token_type: ACCESS_TOKEN_TYPE,
          token_type: "Bearer",
          expires_in: 900,
          scope: EXAMPLE.scope,
        },
      ],
    },
  ),
);

const EXAMPLE_KEY = {
  kty: "OKP",
  crv: "Ed25519",
  x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
  kid: EXAMPLE.event,
  alg: "EdDSA",
  use: "sig",
};
const SigningKey = component(
  "SigningKey",
  Fields(
    {
      kty: Type.String({ description: "`OKP` (RFC 8037)." }),
      crv: Type.String({ description: "`Ed25519`." }),
      x: Type.String({ description: "The public key, base64url." }),
      kid: Type.String({ description: "The key's id, as in an access token's header." }),
      alg: Type.String({ description: "`EdDSA`." }),
      use: Type.String({ description: "`sig`." }),
    },
    { description: "The public half of a key that access tokens are signed with.", examples: [EXAMPLE_KEY] },
  ),
);
export const SigningKeySet = component(
  "SigningKeySet",
  Fields(
    { keys: List(SigningKey) },
    { description: "A JSON Web Key Set (RFC 7517).", examples: [{ keys: [EXAMPLE_KEY] }] },
  ),
);

const words = (description: string) => List(Type.String(), { description });
export const ServerMetadata = component(
  "AuthorizationServerMetadata",
  Fields(
    {
      issuer: Type.String({ description: "The `iss` of every access token." }),
      token_endpoint: Type.String({ description: "Where tokens are had." }),
      jwks_uri: Type.String({ description: "Where the keys are." }),
      grant_types_supported: words("What `grant_type` may be."),
      response_types_supported: words("None: there is no authorization endpoint."),
      token_endpoint_auth_methods_supported: words("How a client may present its secret."),
    },
    {
      description: "Metadata of an OAuth 2.0 authorization server (RFC 8414).",
      examples: [
        {
          issuer: "https://coffer.example.com",
          token_endpoint: "https://coffer.example.com/auth/token",
          jwks_uri: "https://coffer.example.com/.well-known/jwks.json",
          grant_types_supported: [CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
          response_types_supported: [],
          token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
        },
      ],
    },
  ),
);
