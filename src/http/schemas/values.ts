// The values of the three types, as published: named, closed, and with disjoint required fields, so that a client
// can tell them apart. Neither Ajv nor a serializer ever looks into a value on its way in: the domain checks it.
import { Type } from "./type.ts";
import type { SettingValue } from "../../domain/plaintext.ts";
import { Fields, Instead, component } from "./kit.ts";

const Text = (description: string) => Type.String({ minLength: 1, description });

export const EXAMPLE_S3 = {
  access_key_id: "AKIAEXAMPLEEXAMPLE",
  secret_access_key: "example-secret-access-key-not-real",
  region: "eu-central-1",
  bucket: "training-data",
};
export const EXAMPLE_REGISTRY = {
  registry: "registry.example.com",
  username: "robot",
  password: "example-password-not-real",
};
export const EXAMPLE_CUSTOM = "example-value-not-real";

const s3 = {
  access_key_id: Text("The key's id."),
  secret_access_key: Text("The key."),
  session_token: Type.Optional(Text("Goes with temporary keys.")),
  region: Type.Optional(Text("For example eu-central-1.")),
  bucket: Type.Optional(Text("The bucket that the key is meant for.")),
  endpoint: Type.Optional(Text("The URL of an S3-compatible service.")),
  force_path_style: Type.Optional(
    Type.Boolean({ description: "Address the bucket in the path, not the host." }),
  ),
};
const registry = {
  registry: Text("The registry's host, with its port where it has one."),
  username: Text("The user to sign in as."),
  password: Text("The password or token."),
  email: Type.Optional(Text("Some registries want one.")),
};

component(
  "CustomValue",
  Type.String({
    minLength: 1,
    description: "The value of a `custom` setting: text, 1 byte to 64 KiB of UTF-8, no NUL.",
    examples: [EXAMPLE_CUSTOM],
  }),
);
component("S3Value", Fields(s3, { description: "The value of an `s3` setting.", examples: [EXAMPLE_S3] }));
component(
  "ContainerRegistryValue",
  Fields(registry, {
    description: "The value of a `container_registry` setting.",
    examples: [EXAMPLE_REGISTRY],
  }),
);

const THREE = [{ $ref: "CustomValue#" }, { $ref: "S3Value#" }, { $ref: "ContainerRegistryValue#" }];
// The unions have names of their own, so that generated clients get one type for each and not one for each use.
component(
  "SettingValue",
  Type.Unsafe<SettingValue>({
    oneOf: THREE,
    description: "A value: text, or an object whose required fields tell its type.",
  }),
);
component(
  "SettingValueOrField",
  Type.Unsafe<SettingValue | boolean>({
    oneOf: [...THREE, { type: "boolean" }],
    description: "A value; or one field of it, which is a string, or a boolean for `force_path_style`.",
  }),
);

/**
 * What the serializer works with in place of a union: for `oneOf` it would validate each value against each member
 * first, and null against none. This one looks at the JavaScript type, and writes the fields named here or none.
 */
function inOneObject(types: readonly string[]): object {
  const fields = Object.entries({ ...s3, ...registry }).map(([name, field]) => [name, { type: field.type }]);
  return { type: types, additionalProperties: false, properties: Object.fromEntries(fields) };
}

/** The value in a Setting. */
export const ValueOrNull = Instead(
  Type.Unsafe<SettingValue | null>(inOneObject(["object", "string", "null"])),
  {
    nullable: true,
    allOf: [{ $ref: "SettingValue#" }],
    description: "The value, of the type that `type` says. Null unless `decrypted` is true.",
  },
);

/** What the strict read answers. */
export const ValueOrField = Instead(
  Type.Unsafe<SettingValue | boolean>(inOneObject(["object", "string", "boolean"])),
  { $ref: "SettingValueOrField#" },
);

/** A value on its way in: anything, to the validator. The domain's checkValue says what is wrong with it, as 422. */
export const ValueInput = Instead(Type.Unsafe<unknown>({}), { $ref: "SettingValue#" });
