// /settings: reading. The list and the strict read of one value are what workers call all day.
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import type { SettingValue } from "../../domain/plaintext.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, labelOf } from "../input.ts";
import { charge } from "../limits.ts";
import { entityTags, negotiate } from "../parsing.ts";
import { problems } from "../problem.ts";
import { pageText, writerOf } from "../setting-text.ts";
import { ETAG, answer, answerOrText, answerWritten, empty } from "../schemas/kit.ts";
import * as S from "../schemas/settings.ts";
import * as Input from "../schemas/settings-input.ts";
import { settingsWriteRoutes } from "./settings-write.ts";

const tags = ["Settings"];
const LIMIT_DEFAULT = 1000;

export function settingsRoutes(app: App, broker: Broker): void {
  settingsWriteRoutes(app, broker);

  app.get(
    "/settings",
    {
      config: { action: "list" },
      schema: {
        operationId: "listSettings",
        tags,
        summary: "List settings, with their values where asked for",
        description:
          "A page of settings in the order of their paths; for a full path, that one. With `decrypt=true` it opens the " +
          "values that the caller may see: the one call that a worker needs. Only a null `next_cursor` means complete.",
        querystring: Input.ListQuery,
        headers: Input.ReadHeaders,
        response: {
          200: answerWritten("The settings. An ETag only for a full path.", S.SettingPage, {
            headers: ETAG,
            examples: {
              metadata: { settings: [S.EXAMPLE_SETTING], next_cursor: null },
              decrypted: { settings: [S.EXAMPLE_OPENED], next_cursor: null },
              withheld: {
                settings: [S.EXAMPLE_WITHHELD],
                next_cursor: null,
              },
            },
          }),
          304: empty("The client holds this very body.", ETAG),
          ...problems(404, 409, 410, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const { query } = request;
      // Field by field: a spread costs this, the busiest of all requests, several times as much.
      const found = await broker.list(callerOf(request), {
        owner: parseOwner(query.owner_type, query.owner_id),
        path: query.path,
        match: query.match,
        decrypt: query.decrypt ?? false,
        version: query.version,
        type: query.type,
        label: query.label === undefined ? undefined : labelOf(query.label),
        include_deleted: query.include_deleted ?? false,
        limit: query.limit ?? LIMIT_DEFAULT,
        cursor: query.cursor,
        on_error: query.on_error ?? "fail",
        if_none_match: entityTags(request.headers["if-none-match"]),
      });
      if (found.etag !== null) reply.header("etag", found.etag);
      if (found.status === "not_modified") return reply.code(304).send();
      charge(request, found.opened);
      return reply.type("application/json; charset=utf-8").send(pageText(found, writerOf(reply)));
    },
  );

  app.get(
    "/settings/value",
    {
      config: { action: "decrypt" },
      schema: {
        operationId: "getSettingValue",
        tags,
        summary: "Read one value, or fail",
        description:
          "Never an answer without the value. With `Accept: text/plain` the bare text, of one `field` where the value is " +
          "composite: for curl, shells and External Secrets Operator.",
        querystring: Input.ValueQuery,
        headers: Input.ReadHeaders,
        response: {
          200: answerOrText("The value.", S.OpenedValue, {
            headers: ETAG,
            examples: { whole: S.EXAMPLE_VALUE, field: S.EXAMPLE_FIELD },
            text: "example-value-not-real",
          }),
          304: empty("The client holds this very body.", ETAG),
          ...problems(404, 406, 409, 410, 422, 502),
        },
      },
    },
    async (request, reply) => {
      reply.header("vary", "Accept");
      const type = negotiate(request, ["application/json", "text/plain"]);
      const { owner_type, owner_id, ...rest } = request.query;
      const found = await broker.value(
        callerOf(request),
        given({
          ...rest,
          owner: parseOwner(owner_type, owner_id),
          as: type === "text/plain" ? ("text" as const) : ("json" as const),
          if_none_match: entityTags(request.headers["if-none-match"]),
        }),
      );
      reply.header("etag", found.etag);
      if (found.status === "not_modified") return reply.code(304).send();
      charge(request, 1);
      const { path, type: settingType, version, value } = found;
      if (type === "text/plain") return reply.type("text/plain; charset=utf-8").send(textOf(value));
      return { path, type: settingType, version, value };
    },
  );

  app.get(
    "/settings/versions",
    {
      config: { action: "list" },
      schema: {
        operationId: "listSettingVersions",
        tags,
        summary: "List a setting's versions",
        querystring: Input.AddressQuery,
        response: { 200: answer("The versions.", S.VersionList), ...problems(404, 422, 502) },
      },
    },
    async (request) => {
      const { owner_type, owner_id, path } = request.query;
      return broker.versions(callerOf(request), parseOwner(owner_type, owner_id), path);
    },
  );
}

/** The bare text: of a string or a boolean, since the broker refuses text of a whole composite value. */
function textOf(value: SettingValue | boolean): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
