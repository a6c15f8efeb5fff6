// Members of organizations and of projects: the same four routes at both.
import type { Broker } from "../../domain/broker.ts";
import type { SharedOwner } from "../../domain/members.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { idOf, pageOf } from "../input.ts";
import { problems } from "../problem.ts";
import { PageQuery } from "../schemas/common.ts";
import { answer, empty } from "../schemas/kit.ts";
import * as S from "../schemas/members.ts";
import { OrganizationParams, ProjectParams } from "../schemas/owners.ts";

const organization = (params: { readonly organization_id: string }): SharedOwner => ({
  owner_type: "organization",
  owner_id: idOf(params.organization_id),
});
const project = (params: { readonly project_id: string }): SharedOwner => ({
  owner_type: "project",
  owner_id: idOf(params.project_id),
});

export function membersRoutes(app: App, broker: Broker): void {
  const atOrganization = schemasOf("Organization", "an organization");
  const atProject = schemasOf("Project", "a project");
  const config = { action: "manage" } as const;

  app.get(
    "/organizations/:organization_id/members",
    { config, schema: { ...atOrganization.list, params: OrganizationParams } },
    async (request) => broker.members(callerOf(request), organization(request.params), pageOf(request.query)),
  );
  app.get(
    "/projects/:project_id/members",
    { config, schema: { ...atProject.list, params: ProjectParams } },
    async (request) => broker.members(callerOf(request), project(request.params), pageOf(request.query)),
  );

  app.get(
    "/organizations/:organization_id/members/:principal_id",
    { config, schema: { ...atOrganization.get, params: S.OrganizationMemberParams } },
    async (request) => {
      const { params } = request;
      return broker.member(callerOf(request), organization(params), idOf(params.principal_id));
    },
  );
  app.get(
    "/projects/:project_id/members/:principal_id",
    { config, schema: { ...atProject.get, params: S.ProjectMemberParams } },
    async (request) => {
      const { params } = request;
      return broker.member(callerOf(request), project(params), idOf(params.principal_id));
    },
  );

  app.put(
    "/organizations/:organization_id/members/:principal_id",
    { config, schema: { ...atOrganization.put, params: S.OrganizationMemberParams } },
    async (request, reply) => {
      const { params, body } = request;
      const owner = organization(params);
      const { created, member } = await broker.putMember(
        callerOf(request),
        owner,
        idOf(params.principal_id),
        body.role,
      );
      return reply.code(created ? 201 : 200).send(member);
    },
  );
  app.put(
    "/projects/:project_id/members/:principal_id",
    { config, schema: { ...atProject.put, params: S.ProjectMemberParams } },
    async (request, reply) => {
      const { params, body } = request;
      const owner = project(params);
      const { created, member } = await broker.putMember(
        callerOf(request),
        owner,
        idOf(params.principal_id),
        body.role,
      );
      return reply.code(created ? 201 : 200).send(member);
    },
  );

  app.delete(
    "/organizations/:organization_id/members/:principal_id",
    { config, schema: { ...atOrganization.remove, params: S.OrganizationMemberParams } },
    async (request, reply) => {
      const { params } = request;
      await broker.removeMember(callerOf(request), organization(params), idOf(params.principal_id));
      return reply.code(204).send();
    },
  );
  app.delete(
    "/projects/:project_id/members/:principal_id",
    { config, schema: { ...atProject.remove, params: S.ProjectMemberParams } },
    async (request, reply) => {
      const { params } = request;
      await broker.removeMember(callerOf(request), project(params), idOf(params.principal_id));
      return reply.code(204).send();
    },
  );
}

function schemasOf(noun: "Organization" | "Project", a: string) {
  const tags = ["Members"];
  return {
    list: {
      operationId: `list${noun}Members`,
      tags,
      summary: `List the members of ${a}`,
      description:
        "Who was given a role there; an organization's owners own its projects without being listed there.",
      querystring: PageQuery,
      response: { 200: answer("The members.", S.MemberPage), ...problems() },
    },
    get: {
      operationId: `get${noun}Member`,
      tags,
      summary: `Get a member of ${a}`,
      response: { 200: answer("The member.", S.Member), ...problems(404) },
    },
    put: {
      operationId: `put${noun}Member`,
      tags,
      summary: `Give a role at ${a}`,
      description: "The principal holds this role there from now on, and no other.",
      body: S.PutMemberBody,
      response: {
        200: answer("The member with the new role.", S.Member),
        201: answer("The new member.", S.Member),
        ...problems(404, 409, 413, 415),
      },
    },
    remove: {
      operationId: `remove${noun}Member`,
      tags,
      summary: `Take the role at ${a}`,
      response: { 204: empty("No member any more."), ...problems(404, 409, 413, 415) },
    },
  };
}
