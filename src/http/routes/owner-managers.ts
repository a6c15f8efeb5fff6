// Where an owner's new settings go: the same four operations under an organization and under a project.
import type { Owner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, idOf } from "../input.ts";
import { problems } from "../problem.ts";
import { answer, empty } from "../schemas/kit.ts";
import * as S from "../schemas/owner-managers.ts";
import { OrganizationParams, ProjectParams } from "../schemas/owners.ts";

const tags = ["Managers"];

export function ownerManagersRoutes(app: App, broker: Broker): void {
  under(app, broker, {
    word: "Organization",
    url: "/organizations/:organization_id/manager",
    params: OrganizationParams,
    ownerOf: (params) => ({ owner_type: "organization", owner_id: idOf(params["organization_id"] ?? "") }),
  });
  under(app, broker, {
    word: "Project",
    url: "/projects/:project_id/manager",
    params: ProjectParams,
    ownerOf: (params) => ({ owner_type: "project", owner_id: idOf(params["project_id"] ?? "") }),
  });
}

type Under = {
  readonly word: "Organization" | "Project";
  readonly url: string;
  readonly params: typeof OrganizationParams | typeof ProjectParams;
  readonly ownerOf: (params: Readonly<Record<string, string>>) => Owner;
};

function under(app: App, broker: Broker, { word, url, params, ownerOf }: Under): void {
  const config = { action: "manage" as const };
  const whose = `the ${word.toLowerCase()}'s`;

  app.get(
    url,
    {
      config,
      schema: {
        operationId: `get${word}Manager`,
        tags,
        summary: `Where ${whose} new settings go`,
        params,
        response: { 200: answer("Where they go, and who says so.", S.OwnerManager), ...problems(404) },
      },
    },
    async (request) => broker.ownerManager(callerOf(request), ownerOf(request.params)),
  );

  app.put(
    url,
    {
      config,
      schema: {
        operationId: `put${word}Manager`,
        tags,
        summary: `Say where ${whose} new settings go`,
        description: "Among what the operator has enabled. Settings that are there stay where they are.",
        params,
        body: S.OwnerManagerBody,
        response: { 200: answer("Where they go now.", S.OwnerManager), ...problems(404, 413, 415, 422) },
      },
    },
    async (request) =>
      broker.putOwnerManager(callerOf(request), ownerOf(request.params), given(request.body)),
  );

  app.delete(
    url,
    {
      config,
      schema: {
        operationId: `delete${word}Manager`,
        tags,
        summary: `Let ${whose} new settings go where they would by themselves`,
        params,
        response: { 204: empty("It inherits from now on."), ...problems(404, 413, 415) },
      },
    },
    async (request, reply) => {
      await broker.removeOwnerManager(callerOf(request), ownerOf(request.params));
      return reply.code(204).send();
    },
  );

  app.post(
    `${url}/migrate`,
    {
      config,
      schema: {
        operationId: `migrate${word}Manager`,
        tags,
        summary: `Move ${whose} values to where new ones go`,
        description:
          "All enabled versions, numbers kept, in the background; readers see no gap. Ask the manager for how far it is. " +
          "External settings stay where they are.",
        params,
        response: { 202: answer("It has begun.", S.OwnerManager), ...problems(404, 409, 413, 415) },
      },
    },
    async (request, reply) => {
      const begun = await broker.migrate(callerOf(request), ownerOf(request.params));
      return reply.code(202).send(begun);
    },
  );
}
