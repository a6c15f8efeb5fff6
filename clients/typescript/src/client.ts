// The client: one method for each thing that a worker or a service does with settings. Thin: what the broker says is
// what it gives, but for pages, which it follows, and values, which it wraps.
import { CofferError } from "./error.ts";
import type * as Api from "./generated/api.ts";
import { parseReference, type Target } from "./reference.ts";
import { createResolve } from "./resolve.ts";
import { type Clock, RETRY_DEFAULT, RETRY_NEVER, type RetryPolicy, systemClock } from "./retry.ts";
import { Secret, serialize } from "./secret.ts";
import { type Credentials, createTokens } from "./tokens.ts";
import { type Answer, type Call, createTransport, jsonOf } from "./transport.ts";
import type * as T from "./types.ts";
import { watchChanges } from "./watch.ts";

export type ClientOptions = Credentials & {
  /** Where the broker is. */
  readonly url: string;
  /** How often and how long to try again on 429, 503 and no answer; false: never. */
  readonly retry?: Partial<RetryPolicy> | false;
  /** How long one request may take. */
  readonly timeoutMs?: number;
  /** Instead of the runtime's own. */
  readonly fetch?: typeof fetch;
  /** Instead of the system's, for tests. */
  readonly clock?: Clock;
};

const TIMEOUT_MS = 30_000;
const NOT_MODIFIED = 304;

/** A client of the broker at `url`, speaking for whom `token`, `tokenFile` or `exchange` says. */
export function createClient(options: ClientOptions) {
  const { url, retry, timeoutMs = TIMEOUT_MS, clock = systemClock } = options;
  const policy = retry === false ? RETRY_NEVER : { ...RETRY_DEFAULT, ...retry };
  const fetch: typeof globalThis.fetch = options.fetch ?? ((...given) => globalThis.fetch(...given));
  const transport = createTransport({ url, fetch, policy, timeoutMs, clock });
  const tokens = createTokens(options, transport, clock);
  const send = (call: Call): Promise<Answer> => transport(call, tokens);
  const json = async <Body>(call: Call): Promise<Body> => jsonOf(await send(call)) as Body;

  /** A strict read; null: not modified. */
  async function read(target: Target, etag: string | undefined, signal: AbortSignal | undefined) {
    const { version, field } = target;
    const answer = await send({
      method: "GET",
      path: "/settings/value",
      query: { ...addressOf(target), version, field },
      headers: { "if-none-match": etag },
      repeat: "safe",
      signal,
    });
    if (answer.status === NOT_MODIFIED) return null;
    const { value, ...rest } = jsonOf(answer) as Api.OpenedValue;
    const seen: T.OpenedValue = { ...rest, value: new Secret(value) };
    return { etag: answer.headers.get("etag") ?? undefined, text: answer.text, seen };
  }

  return {
    /** The settings that match `path`, or all of the owner's; on all pages. */
    async getSettings<const Path extends string>(
      ownerType: T.OwnerType,
      ownerId: string,
      path?: Path,
      { onError, includeDeleted, pageSize, signal, ...rest }: T.GetSettingsOptions = {},
    ): Promise<T.Setting<T.ValueAt<Path>>[]> {
      const settings: T.Setting<T.ValueAt<Path>>[] = [];
      const query = {
        ...addressOf({ ownerType, ownerId, path }),
        ...rest,
        on_error: onError,
        include_deleted: includeDeleted,
        limit: pageSize,
      };
      for (let cursor: string | undefined; ; ) {
        const call = {
          method: "GET",
          path: "/settings",
          query: { ...query, cursor },
          repeat: "safe",
          signal,
        } as const;
        const page = await json<Api.SettingPage>(call);
        for (const each of page.settings) settings.push(settingOf(each));
        if (page.next_cursor === null) return settings;
        cursor = page.next_cursor;
      }
    },

    /** One value, or an error: never a withheld one. */
    async getValue<const Path extends string>(
      ownerType: T.OwnerType,
      ownerId: string,
      path: Path,
      { version, signal }: T.GetValueOptions = {},
    ): Promise<T.OpenedValue<T.ValueAt<Path>>> {
      const found = await read({ ownerType, ownerId, path, version }, undefined, signal);
      return (found ?? unasked()).seen as T.OpenedValue<T.ValueAt<Path>>;
    },

    /** One field of a value. */
    async getField(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string,
      field: string,
      { version, signal }: T.GetValueOptions = {},
    ): Promise<T.OpenedValue<string | boolean>> {
      const found = await read({ ownerType, ownerId, path, version, field }, undefined, signal);
      return (found ?? unasked()).seen as T.OpenedValue<string | boolean>;
    },

    ...createResolve(json, policy, clock),

    /** The settings that match `path`, in the form that their consumer reads. */
    async render(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string | undefined,
      format: T.RenderFormat,
      { signal, ...rest }: T.RenderOptions = {},
    ): Promise<Secret<string>> {
      const query = { ...addressOf({ ownerType, ownerId, path }), format, ...rest };
      const headers = { accept: "*/*" };
      const answer = await send({
        method: "GET",
        path: "/settings/render",
        query,
        headers,
        repeat: "safe",
        signal,
      });
      return new Secret(answer.text);
    },

    /** Yields the value at a reference or an address, and again whenever it has changed, until `signal` aborts. */
    watch(
      target: string | T.Address,
      options: T.WatchOptions = {},
    ): AsyncGenerator<T.OpenedValue, void, undefined> {
      const parsed = typeof target === "string" ? parseReference(target) : target;
      return watchChanges((etag) => read(parsed, etag, options.signal), options, clock);
    },

    /** Makes the setting, or its next version. */
    async put<const Path extends string>(
      ownerType: T.OwnerType,
      ownerId: string,
      path: Path,
      body: T.PutBody<T.ValueAt<Path>>,
      { ifMatch, ifNoneMatch, signal }: T.PutOptions = {},
    ): Promise<T.Setting> {
      const isConditional = ifMatch !== undefined || ifNoneMatch !== undefined;
      const answer = await json<Api.Setting>({
        method: "PUT",
        path: "/settings",
        query: addressOf({ ownerType, ownerId, path }),
        headers: { "if-match": etagOf(ifMatch), "if-none-match": ifNoneMatch },
        body: serialize(body),
        // A value that is there already makes no version; but a condition may have ceased to hold by our own doing.
        repeat: isConditional ? "refused" : "safe",
        signal,
      });
      return settingOf(answer);
    },

    /** Changes metadata; null clears. Makes no version. */
    async patch(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string,
      body: Api.PatchSettingBody,
      { ifMatch, signal }: T.ChangeOptions = {},
    ): Promise<T.Setting> {
      const answer = await json<Api.Setting>({
        method: "PATCH",
        path: "/settings",
        query: addressOf({ ownerType, ownerId, path }),
        headers: { "if-match": etagOf(ifMatch) },
        body: serialize(body),
        // Metadata that is there already changes nothing; a condition, as above.
        repeat: ifMatch === undefined ? "safe" : "refused",
        signal,
      });
      return settingOf(answer);
    },

    /** Soft-deletes; with `purge` destroys every value at once. */
    async delete(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string,
      { purge, ifMatch, signal }: T.ChangeOptions & { readonly purge?: boolean } = {},
    ): Promise<void> {
      const query = { ...addressOf({ ownerType, ownerId, path }), purge };
      const headers = { "if-match": etagOf(ifMatch) };
      await send({ method: "DELETE", path: "/settings", query, headers, repeat: "refused", signal });
    },

    /** Undoes a soft delete. */
    async restore(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string,
      { signal }: T.CallOptions = {},
    ): Promise<T.Setting> {
      const query = addressOf({ ownerType, ownerId, path });
      return settingOf(
        await json<Api.Setting>({
          method: "POST",
          path: "/settings/restore",
          query,
          repeat: "never",
          signal,
        }),
      );
    },

    /** The versions that there are; no values. */
    async listVersions(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string,
      { signal }: T.CallOptions = {},
    ) {
      const query = addressOf({ ownerType, ownerId, path });
      const call = { method: "GET", path: "/settings/versions", query, repeat: "safe", signal } as const;
      return (await json<Api.VersionList>(call)).versions;
    },

    /** Makes a new version with the value of an old one. */
    async rollback(
      ownerType: T.OwnerType,
      ownerId: string,
      path: string,
      version: number,
      { signal }: T.CallOptions = {},
    ): Promise<T.Setting> {
      const query = { ...addressOf({ ownerType, ownerId, path }), version };
      return settingOf(
        await json<Api.Setting>({
          method: "POST",
          path: "/settings/rollback",
          query,
          repeat: "never",
          signal,
        }),
      );
    },
  };
}

export type Client = ReturnType<typeof createClient>;

function addressOf({
  ownerType,
  ownerId,
  path,
}: Omit<T.Address, "path"> & { readonly path?: string | undefined }) {
  return { owner_type: ownerType, owner_id: ownerId, path };
}

function etagOf(given: string | number | undefined): string | undefined {
  return typeof given === "number" ? `"${given}"` : given;
}

function settingOf<Value = Api.SettingValue>({ value, ...rest }: Api.Setting): T.Setting<Value> {
  return { ...rest, value: value === null ? null : new Secret(value as Value) };
}

function unasked(): never {
  throw new CofferError({
    status: NOT_MODIFIED,
    code: "invalid_answer",
    detail: "A 304 that nobody asked for.",
  });
}
