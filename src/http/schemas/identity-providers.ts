// Identity providers of organizations: what clients send and what they are sent. Of a key only its public members ever
// leave, whatever is stored.
import { Type } from "./type.ts";
import { EXAMPLE, Id, IdInput, NextCursor, Scopes, ScopesInput, Text, Time } from "./common.ts";
import { Fields, Instead, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";

const URL_LENGTH_MAX = 2_048;
const KEYS_MAX = 32;
const BINDINGS_MAX = 100;
const CLAIMS_MAX = 16;
const WANTED_MAX = 32;

const EXAMPLE_INPUT = {
  issuer: "https://token.actions.githubusercontent.com",
  audience: "https://coffer.example.com",
  jwks_uri: "https://token.actions.githubusercontent.com/.well-known/jwks",
  bindings: [
    {
      claims: { sub: "repo:acme/*:ref:refs/heads/main", repository_owner_id: "123456" },
      match: "glob",
      service_account_id: EXAMPLE.serviceAccount,
      scopes: [EXAMPLE.scope],
    },
  ],
};
const EXAMPLE_PROVIDER = {
  id: EXAMPLE.event,
  organization_id: EXAMPLE.organization,
  ...EXAMPLE_INPUT,
  jwks: null,
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
  updated_at: EXAMPLE.at,
};

/** The members of a JSON Web Key that may be shown; a private key has others. */
const keyMember = (description: string) => Type.Optional(Text(4_096, description));
const keyMembers = {
  kty: Text(16, "The key's type: `RSA`, `EC` or `OKP`."),
  use: keyMember("`sig`, where it is given."),
  alg: keyMember("The one algorithm that it is for, where it is given."),
  kid: keyMember("The key's id, as in a token's header."),
  crv: keyMember("`EC`, `OKP`: the curve."),
  x: keyMember("`EC`, `OKP`: the public key, or its first half."),
  y: keyMember("`EC`: the second half."),
  n: keyMember("`RSA`: the modulus."),
  e: keyMember("`RSA`: the exponent."),
  key_ops: Type.Optional(
    Type.Array(Text(32, "An operation."), { maxItems: 16, description: "`verify`, where it is given." }),
  ),
};
export const KEY_MEMBERS = Object.keys(keyMembers);

const keyWords = {
  description: "A public key (RFC 7517).",
  examples: [{ kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }],
};
/** Of whatever is stored, the serializer lets out these members. */
const PublicKey = Type.Unsafe<Readonly<Record<string, unknown>>>(
  component("PublicKey", Fields(keyMembers, keyWords)),
);
const setWords = "A JSON Web Key Set (RFC 7517).";
const PublicKeySet = Fields({ keys: List(PublicKey) }, { description: setWords });
/** What a provider publishes has members that are passed over here: certificates, for one. */
const PublicKeySetInput = Instead(
  Type.Object({ keys: Type.Array(Type.Object(keyMembers), { minItems: 1, maxItems: KEYS_MAX }) }),
  PublicKeySet,
);

const Wanted = Text(512, "The text that the claim has to have.");
const wanted = Type.Unsafe<string | readonly string[]>({
  anyOf: [Wanted, Type.Array(Wanted, { minItems: 1, maxItems: WANTED_MAX })],
});
// Neither unions in maps nor patterns of their names read well in clients: they are told of a plain object.
const claimWords = {
  type: "object",
  description:
    "Each claim that must match, and its text, or a list of which any will do. `sub` is among them. A name that starts " +
    "with `/` is a JSON Pointer.",
  example: EXAMPLE_INPUT.bindings[0]?.claims,
};
const ClaimsInput = Instead(
  Type.Unsafe<Readonly<Record<string, string | readonly string[]>>>({
    type: "object",
    propertyNames: { minLength: 1, maxLength: 256, pattern: "^[^\\u0000\\ud800-\\udfff]*$" },
    additionalProperties: wanted,
    minProperties: 1,
    maxProperties: CLAIMS_MAX,
  }),
  { ...claimWords, additionalProperties: true },
);
const Claims = Instead(
  Type.Unsafe<Readonly<Record<string, string | readonly string[]>>>({
    type: "object",
    additionalProperties: { anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }] },
  }),
  { ...claimWords, additionalProperties: true },
);

const MATCHES = ["exact", "glob"] as const;
const matchWords = "`glob`: `*` stands for any run of characters but `:` and `/`. Otherwise text is literal.";
const bindingExample = { examples: EXAMPLE_INPUT.bindings };
const account = "The service account that it stands for; of this organization.";

const BindingInput = component(
  "BindingInput",
  Fields(
    {
      claims: ClaimsInput,
      match: Type.Optional(OneOf(MATCHES, { default: "exact", description: matchWords })),
      service_account_id: IdInput(account, EXAMPLE.serviceAccount),
      scopes: Type.Optional(Nullable(ScopesInput)),
    },
    { description: "Whose tokens stand for which service account.", ...bindingExample },
  ),
);
const Binding = component(
  "Binding",
  Fields(
    {
      claims: Claims,
      match: OpenOneOf(MATCHES, { description: matchWords }),
      service_account_id: Id(account),
      scopes: Scopes,
    },
    { description: "Whose tokens stand for which service account.", ...bindingExample },
  ),
);

const issuer = "The `iss` of its tokens, letter for letter.";
const audience = "The `aud` that its tokens must have: one made for this broker alone.";
const jwksUri = "Where its keys are. `https`, or a loopback address.";

export const IdentityProviderBody = component(
  "IdentityProviderInput",
  Fields(
    {
      issuer: Text(512, issuer),
      audience: Text(512, audience),
      jwks_uri: Type.Optional(Nullable(Text(URL_LENGTH_MAX, jwksUri))),
      jwks: Type.Optional(Nullable(PublicKeySetInput)),
      bindings: Type.Array(BindingInput, {
        maxItems: BINDINGS_MAX,
        description: "Whose tokens stand for whom.",
      }),
    },
    {
      description:
        "An identity provider: exactly one of `jwks_uri` and `jwks` is given. `jwks` and `bindings` together have at most " +
        "65,536 characters, as JSON.",
      examples: [EXAMPLE_INPUT],
    },
  ),
);
export const IdentityProvider = component(
  "IdentityProvider",
  Fields(
    {
      id: Id("The identity provider's id."),
      organization_id: Id("The organization that trusts it."),
      issuer: Type.String({ description: issuer }),
      audience: Type.String({ description: audience }),
      jwks_uri: Nullable(Type.String({ description: jwksUri })),
      jwks: Nullable(PublicKeySet),
      bindings: List(Binding, { description: "Whose tokens stand for whom." }),
      created_at: Time("When it was registered."),
      created_by: Id("Who registered it."),
      updated_at: Time("When it was last changed. A change ends every access token that was had through it."),
    },
    {
      description: "An identity provider: its tokens sign workloads in as service accounts.",
      examples: [EXAMPLE_PROVIDER],
    },
  ),
);
export const IdentityProviderPage = component(
  "IdentityProviderPage",
  Fields(
    { identity_providers: List(IdentityProvider), next_cursor: NextCursor },
    {
      description: "Identity providers.",
      examples: [{ identity_providers: [EXAMPLE_PROVIDER], next_cursor: null }],
    },
  ),
);

export const IdentityProviderParams = Fields({
  organization_id: IdInput("The organization's id.", EXAMPLE.organization),
  identity_provider_id: IdInput("The identity provider's id.", EXAMPLE.event),
});
