// References resolved, and settings rendered for the programs that use them.
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import type { RenderFormat } from "../../domain/render-formats.ts";
import type { Resolved } from "../../domain/resolve.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, labelOf } from "../input.ts";
import { charge } from "../limits.ts";
import { PROBLEMS, problems } from "../problem.ts";
import { answer } from "../schemas/kit.ts";
import * as S from "../schemas/references.ts";

const tags = ["References"];
const OK = 200;
const AS_TEXT: ReadonlySet<RenderFormat> = new Set(["env", "dotenv", "comet"]);

export function referencesRoutes(app: App, broker: Broker): void {
  app.post(
    "/settings/resolve",
    {
      config: { action: "decrypt" },
      schema: {
        operationId: "resolveReferences",
        tags,
        summary: "Resolve references to values",
        description:
          "Each reference has a status of its own, as the strict read of it would have. What does not resolve is an " +
          "error of that item; it is never a 200 without a value, nor the reference in the value's place.",
        body: S.ResolveBody,
        response: { 200: answer("One result for each reference.", S.ResolveAnswer), ...problems(413, 415) },
      },
    },
    async (request) => {
      const { refs, explain } = request.body;
      const { results, opened } = await broker.resolve(callerOf(request), refs, explain ?? false);
      charge(request, opened);
      return { results: results.map(resultOf) };
    },
  );

  app.get(
    "/settings/render",
    {
      config: { action: "decrypt" },
      schema: {
        operationId: "renderSettings",
        tags,
        summary: "Render settings for the program that uses them",
        description:
          "The matching settings, all of them or none: one that may not be decrypted makes it 403, an expired one 410, " +
          "names that clash 409, a type, name or value that does not fit the format 422.",
        querystring: S.RenderQuery,
        response: { 200: S.Rendering, ...problems(404, 409, 410, 413, 422, 502) },
      },
    },
    async (request, reply) => {
      const { owner_type, owner_id, label, prefix, ...rest } = request.query;
      const { text, opened } = await broker.render(
        callerOf(request),
        given({
          ...rest,
          owner: parseOwner(owner_type, owner_id),
          label: label === undefined ? undefined : labelOf(label),
          prefix: prefix ?? "",
        }),
      );
      charge(request, opened);
      const type = AS_TEXT.has(rest.format) ? "text/plain" : "application/json";
      return reply.type(`${type}; charset=utf-8`).send(text);
    },
  );
}

/** A failed item says what a strict read's problem would. */
function resultOf({ ref, outcome }: Resolved) {
  if (outcome.kind === "resolved") {
    const { value, version, setting_id } = outcome;
    return given({ ref, status: OK, value, version, setting_id });
  }
  const { code, message: detail, fields } = outcome.error;
  const { reason, required } = fields;
  return given({ ref, status: PROBLEMS[code].status, code, detail, reason, required });
}
