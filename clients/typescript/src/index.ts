// @coffer/client: what is public.
export { type Client, type ClientOptions, createClient } from "./client.ts";
export { CofferError, type ErrorCode } from "./error.ts";
export type {
  ContainerRegistryValue,
  CustomValue,
  PatchSettingBody,
  S3Value,
  SettingValue,
  SettingValueOrField,
  Version,
} from "./generated/api.ts";
export type { Clock, RetryPolicy } from "./retry.ts";
export { Secret } from "./secret.ts";
export type { ClientCredentials, Credentials, Text, TokenExchange } from "./tokens.ts";
export type {
  Address,
  CallOptions,
  ChangeOptions,
  Explanation,
  GetSettingsOptions,
  GetValueOptions,
  OpenedValue,
  OwnerType,
  PutBody,
  PutOptions,
  RenderFormat,
  RenderOptions,
  Resolution,
  Resolved,
  Setting,
  Unresolved,
  ValueAt,
  WatchOptions,
} from "./types.ts";
