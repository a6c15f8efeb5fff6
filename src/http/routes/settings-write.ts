// /settings: writing. Preconditions go to the broker as they are: it judges them under the path's lock.
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { contentOf, given, metadataOf, preconditionsOf } from "../input.ts";
import { problems } from "../problem.ts";
import { ETAG, answer, empty } from "../schemas/kit.ts";
import { RemovalPreview } from "../schemas/report.ts";
import { Setting } from "../schemas/settings.ts";
import * as S from "../schemas/settings-input.ts";

const tags = ["Settings"];
const DAYS_DEFAULT = 90;

type Addressed = {
  readonly query: { readonly owner_type: string; readonly owner_id: string; readonly path: string };
  readonly headers: Parameters<typeof preconditionsOf>[0];
};

function addressOf({ query, headers }: Addressed) {
  return {
    owner: parseOwner(query.owner_type, query.owner_id),
    path: query.path,
    ...preconditionsOf(headers),
  };
}

export function settingsWriteRoutes(app: App, broker: Broker): void {
  app.put(
    "/settings",
    {
      config: { action: "write" },
      schema: {
        operationId: "putSetting",
        tags,
        summary: "Write a value",
        description:
          "Makes the setting, or its next version. A value equal to the current one makes no version for a caller who " +
          "may decrypt, so that a retry is safe. The answer never repeats the value.",
        querystring: S.AddressQuery,
        headers: S.WriteHeaders,
        body: S.PutSettingBody,
        response: {
          200: answer("The setting was there.", Setting, { headers: ETAG }),
          201: answer("The setting is new, or was deleted before.", Setting, { headers: ETAG }),
          ...problems(409, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const { value, external, storage, manager, ...metadata } = request.body;
      const { created, setting } = await broker.put(callerOf(request), {
        ...addressOf(request),
        ...given({ storage, manager }),
        content: contentOf(given({ value, external })),
        metadata: metadataOf(metadata),
      });
      return reply
        .code(created ? 201 : 200)
        .header("etag", setting.etag)
        .send(setting);
    },
  );

  app.patch(
    "/settings",
    {
      config: { action: "write" },
      schema: {
        operationId: "patchSetting",
        tags,
        summary: "Change a setting's metadata",
        description: "A JSON merge patch. It makes no version and touches no value.",
        consumes: ["application/json", "application/merge-patch+json"],
        querystring: S.AddressQuery,
        headers: S.WriteHeaders,
        body: S.PatchSettingBody,
        response: {
          200: answer("The setting as it is now.", Setting, { headers: ETAG }),
          ...problems(404, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const metadata = metadataOf(request.body);
      const setting = await broker.patch(callerOf(request), { ...addressOf(request), metadata });
      reply.header("etag", setting.etag);
      return setting;
    },
  );

  app.delete(
    "/settings",
    {
      config: { action: "write" },
      schema: {
        operationId: "deleteSetting",
        tags,
        summary: "Delete a setting",
        description:
          "Soft: it can be restored for a time, and is purged then. With `purge=true` (needs `destroy`) every value is " +
          "destroyed at once. With `dry_run=true` nothing happens, and the answer says who read it lately.",
        querystring: S.DeleteQuery,
        headers: S.WriteHeaders,
        response: {
          200: answer("With `dry_run`: who would miss it. Nothing is changed.", RemovalPreview),
          204: empty("Deleted."),
          ...problems(404, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const address = addressOf(request);
      const { purge, dry_run, days = DAYS_DEFAULT } = request.query;
      if (dry_run === true) {
        const action = purge === true ? "destroy" : "write";
        return broker.previewRemoval(callerOf(request), { ...address, days, action });
      }
      if (purge === true) await broker.purge(callerOf(request), address);
      else await broker.softDelete(callerOf(request), address);
      return reply.code(204).send();
    },
  );

  app.post(
    "/settings/restore",
    {
      config: { action: "write" },
      schema: {
        operationId: "restoreSetting",
        tags,
        summary: "Undo a soft delete",
        querystring: S.AddressQuery,
        headers: S.WriteHeaders,
        response: {
          200: answer("The setting, live again.", Setting, { headers: ETAG }),
          ...problems(404, 409, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const setting = await broker.restore(callerOf(request), addressOf(request));
      reply.header("etag", setting.etag);
      return setting;
    },
  );

  app.post(
    "/settings/rollback",
    {
      config: { action: "write" },
      schema: {
        operationId: "rollbackSetting",
        tags,
        summary: "Go back to an earlier value",
        description: "Makes a new version with the value of the one named.",
        querystring: S.VersionQuery,
        headers: S.WriteHeaders,
        response: {
          200: answer("The setting with its new version.", Setting, { headers: ETAG }),
          ...problems(404, 409, 410, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const { version } = request.query;
      const setting = await broker.rollback(callerOf(request), { ...addressOf(request), version });
      reply.header("etag", setting.etag);
      return setting;
    },
  );

  app.delete(
    "/settings/versions",
    {
      config: { action: "destroy" },
      schema: {
        operationId: "destroySettingVersion",
        tags,
        summary: "Destroy one version's value",
        description: "For ever, and at once. The version stays in the list, as `destroyed`.",
        querystring: S.DestroyQuery,
        headers: S.WriteHeaders,
        response: {
          200: answer("With `dry_run`: who would miss it. Nothing is changed.", RemovalPreview),
          204: empty("Destroyed."),
          ...problems(404, 410, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const { version, dry_run, days = DAYS_DEFAULT } = request.query;
      const asked = { ...addressOf(request), version };
      if (dry_run === true)
        return broker.previewRemoval(callerOf(request), { ...asked, days, action: "destroy" });
      await broker.destroyVersion(callerOf(request), asked);
      return reply.code(204).send();
    },
  );
}
