// What the client takes and gives. Names of data are the broker's own, so snake_case; values come as secrets.
import type * as Api from "./generated/api.ts";
import type { Secret } from "./secret.ts";

export type OwnerType = "organization" | "project" | "user";

type Under<Prefix extends string> = Prefix | `${Prefix}/${string}`;

/** The value at or under a path, as far as the path says: `connect/S3/data` holds an S3Value. */
export type ValueAt<Path extends string> =
  Path extends Under<"secret/Custom">
    ? Api.CustomValue
    : Path extends Under<"connect/S3">
      ? Api.S3Value
      : Path extends Under<"connect/ContainerRegistry">
        ? Api.ContainerRegistryValue
        : Api.SettingValue;

/** One setting. `value` is null unless `decrypted`; `withheld` says why one that was asked for is not here. */
export type Setting<Value = Api.SettingValue> = Omit<Api.Setting, "value"> & {
  readonly value: Secret<Value> | null;
};

/** One value, opened. */
export type OpenedValue<Value = Api.SettingValueOrField> = Omit<Api.OpenedValue, "value"> & {
  readonly value: Secret<Value>;
};

/** A reference that gave its value. */
export type Resolved = {
  readonly ref: string;
  readonly status: 200;
  readonly value: Secret<Api.SettingValueOrField>;
  readonly version: number;
  readonly setting_id: string;
};
/** A reference that gave none, and why; the reference itself never stands in for a value. */
export type Unresolved = Pick<Api.ResolvedReference, "ref" | "status" | "reason" | "required"> &
  Required<Pick<Api.ResolvedReference, "code" | "detail">> & { readonly value?: undefined };
export type Resolution = Resolved | Unresolved;

/** What a reference would give: a setting and its version, or what stops it. */
export type Explanation = Omit<Api.ResolvedReference, "value">;

/** In whose form to render settings. */
export type RenderFormat =
  | "env"
  | "dotenv"
  | "json"
  | "dockerconfigjson"
  | "aws_credentials"
  | "k8s_secret"
  | "comet";

/** Where a setting is. */
export type Address = { readonly ownerType: OwnerType; readonly ownerId: string; readonly path: string };

export type CallOptions = { readonly signal?: AbortSignal | undefined };

export type GetSettingsOptions = CallOptions & {
  /** Asks for the values as well. */
  readonly decrypt?: boolean;
  /** One version; with a full path alone. */
  readonly version?: number;
  readonly match?: "auto" | "exact" | "under";
  readonly type?: "custom" | "s3" | "container_registry";
  /** `key:value`. */
  readonly label?: string;
  /** `withhold`: a value that its manager fails to give is withheld, instead of failing the whole call. */
  readonly onError?: "fail" | "withhold";
  readonly includeDeleted?: boolean;
  /** How many settings a request asks for; all are given back whatever it is. */
  readonly pageSize?: number;
};

export type RenderOptions = CallOptions &
  Pick<GetSettingsOptions, "match" | "type" | "label" | "version"> & {
    /** Goes before each name. */
    readonly prefix?: string;
  };

export type GetValueOptions = CallOptions & { readonly version?: number };

/** `ifMatch`: the ETag or the number of the version that is to be current. */
export type ChangeOptions = CallOptions & { readonly ifMatch?: string | number | undefined };
/** `ifNoneMatch`: the setting must not be there yet. */
export type PutOptions = ChangeOptions & { readonly ifNoneMatch?: "*" | undefined };

/** A value, perhaps as a secret that was read before, and what metadata is to change. */
export type PutBody<Value = Api.SettingValue> = Omit<Api.PutSettingBody, "value"> & {
  readonly value: Value | Secret<Value>;
};

export type WatchOptions = CallOptions & {
  /** From one look to the next, give or take a tenth. */
  readonly intervalMs?: number;
  /** Told of failures that pass: the broker was down, say. The watch goes on. */
  readonly onError?: (error: Error) => void;
};
