// Many settings at once; settings on their way to another owner.
import type { Static } from "typebox";
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import { badInput } from "../../domain/errors.ts";
import type { ImportInput } from "../../domain/import-items.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, metadataOf } from "../input.ts";
import { charge } from "../limits.ts";
import { problems } from "../problem.ts";
import * as S from "../schemas/bulk.ts";
import { ETAG, answer } from "../schemas/kit.ts";
import { Setting } from "../schemas/settings.ts";
import { AddressQuery } from "../schemas/settings-input.ts";

const tags = ["Lifecycle"];
const UNDER_DEFAULT = "secret/Custom";

export function bulkRoutes(app: App, broker: Broker): void {
  app.post(
    "/settings/import",
    {
      config: { action: "write" },
      schema: {
        operationId: "importSettings",
        tags,
        summary: "Write many settings, or none",
        description:
          "Up to 500 at once, in one transaction. A value equal to the current one makes no version. What is wrong is " +
          "told all at once, and then nothing is written.",
        querystring: S.ImportQuery,
        body: S.ImportBody,
        response: {
          200: answer("What was done, or with `dry_run` what would be.", S.ImportAnswer),
          ...problems(404, 409, 413, 415, 422, 502),
        },
      },
    },
    async (request) => {
      const { owner_type, owner_id, dry_run, conflict } = request.query;
      return broker.importSettings(callerOf(request), {
        owner: parseOwner(owner_type, owner_id),
        dry_run: dry_run ?? false,
        conflict: conflict ?? "fail",
        source: sourceOf(request.body),
      });
    },
  );

  for (const verb of ["copy", "move"] as const)
    app.post(
      `/settings/${verb}`,
      {
        config: { action: "decrypt" },
        schema: {
          operationId: `${verb}Setting`,
          tags,
          summary: verb === "copy" ? "Copy a setting to another owner or path" : "Move a setting",
          description:
            (verb === "copy"
              ? "Needs `decrypt` at the source and `write` at the target. "
              : "Needs `decrypt` and `write` at the source, and `write` at the target; the source is then soft-deleted. ") +
            "The current value and its metadata go; earlier versions stay behind. 412 where the target exists.",
          querystring: AddressQuery,
          body: S.TransferBody,
          response: {
            200: answer("The setting at its target.", Setting, { headers: ETAG }),
            ...problems(404, 409, 410, 412, 413, 415, 422, 502),
          },
        },
      },
      async (request, reply) => {
        const { owner_type, owner_id, path } = request.query;
        const { to, overwrite } = request.body;
        const target = { owner: parseOwner(to.owner_type, to.owner_id), path: to.path };
        const source = { owner: parseOwner(owner_type, owner_id), path };
        const input = { ...source, to: target, overwrite: overwrite ?? false };
        const setting = await (verb === "copy"
          ? broker.copySetting(callerOf(request), input)
          : broker.moveSetting(callerOf(request), input));
        charge(request, 1);
        reply.header("etag", setting.etag);
        return setting;
      },
    );
}

function sourceOf({ settings, dotenv, under }: Static<typeof S.ImportBody>): ImportInput["source"] {
  const bad = (detail: string) => badInput("invalid_request", "body", "/settings", detail);
  if (settings !== undefined && dotenv === undefined) {
    if (under !== undefined) throw bad("`under` goes with `dotenv`.");
    const items = settings.map(({ path, value, ...metadata }) => ({
      path,
      value,
      metadata: metadataOf(given(metadata)),
    }));
    return { kind: "settings", settings: items };
  }
  if (dotenv === undefined || settings !== undefined)
    throw bad("Give exactly one of `settings` and `dotenv`.");
  return { kind: "dotenv", text: dotenv, under: under ?? UNDER_DEFAULT };
}
