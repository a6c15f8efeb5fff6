// Organizations and projects.
import type { Broker } from "../../domain/broker.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { idOf, pageOf } from "../input.ts";
import { problems } from "../problem.ts";
import { PageQuery, PurgeQuery } from "../schemas/common.ts";
import { LOCATION, answer, empty } from "../schemas/kit.ts";
import * as S from "../schemas/owners.ts";

export function ownersRoutes(app: App, broker: Broker): void {
  organizationRoutes(app, broker);
  projectRoutes(app, broker);
}

function organizationRoutes(app: App, broker: Broker): void {
  const tags = ["Organizations"];

  app.post(
    "/organizations",
    {
      config: { action: "administer" },
      schema: {
        operationId: "createOrganization",
        tags,
        summary: "Make an organization",
        description:
          "For instance admins, who get no right in it by that: its owner is the user named, or the caller.",
        body: S.CreateOrganizationBody,
        response: {
          201: answer("The new organization.", S.Organization, { headers: LOCATION }),
          ...problems(409, 413, 415, 422),
        },
      },
    },
    async (request, reply) => {
      const { name, owner_id } = request.body;
      const made = await broker.createOrganization(
        callerOf(request),
        name,
        owner_id === undefined ? null : idOf(owner_id),
      );
      return reply.code(201).header("location", `/organizations/${made.id}`).send(made);
    },
  );

  app.get(
    "/organizations",
    {
      config: { action: "list" },
      schema: {
        operationId: "listOrganizations",
        tags,
        summary: "List the caller's organizations",
        description: "Those that the caller has a role in.",
        querystring: PageQuery,
        response: { 200: answer("The organizations.", S.OrganizationPage), ...problems() },
      },
    },
    async (request) => broker.organizations(callerOf(request), pageOf(request.query)),
  );

  app.get(
    "/organizations/:organization_id",
    {
      config: { action: "list" },
      schema: {
        operationId: "getOrganization",
        tags,
        summary: "Get an organization",
        params: S.OrganizationParams,
        response: { 200: answer("The organization.", S.Organization), ...problems(404) },
      },
    },
    async (request) => broker.organization(callerOf(request), idOf(request.params.organization_id)),
  );

  app.patch(
    "/organizations/:organization_id",
    {
      config: { action: "manage" },
      schema: {
        operationId: "patchOrganization",
        tags,
        summary: "Rename an organization",
        consumes: ["application/json", "application/merge-patch+json"],
        params: S.OrganizationParams,
        body: S.RenameBody,
        response: {
          200: answer("The organization as it is now.", S.Organization),
          ...problems(404, 409, 413, 415),
        },
      },
    },
    async (request) => {
      const { params, body } = request;
      return broker.renameOrganization(callerOf(request), idOf(params.organization_id), body.name);
    },
  );

  app.delete(
    "/organizations/:organization_id",
    {
      config: { action: "manage" },
      schema: {
        operationId: "deleteOrganization",
        tags,
        summary: "Delete an organization",
        description:
          "With its projects and service accounts. 409 while there are settings, unless `purge=true`.",
        params: S.OrganizationParams,
        querystring: PurgeQuery,
        response: { 204: empty("Deleted."), ...problems(404, 409, 413, 415) },
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      await broker.removeOrganization(callerOf(request), idOf(params.organization_id), query.purge ?? false);
      return reply.code(204).send();
    },
  );
}

function projectRoutes(app: App, broker: Broker): void {
  const tags = ["Projects"];

  app.post(
    "/organizations/:organization_id/projects",
    {
      config: { action: "manage" },
      schema: {
        operationId: "createProject",
        tags,
        summary: "Make a project",
        description: "The organization's owners own it.",
        params: S.OrganizationParams,
        body: S.CreateProjectBody,
        response: {
          201: answer("The new project.", S.Project, { headers: LOCATION }),
          ...problems(404, 409, 413, 415),
        },
      },
    },
    async (request, reply) => {
      const { params, body } = request;
      const made = await broker.createProject(callerOf(request), idOf(params.organization_id), body.name);
      return reply.code(201).header("location", `/projects/${made.id}`).send(made);
    },
  );

  app.get(
    "/organizations/:organization_id/projects",
    {
      config: { action: "list" },
      schema: {
        operationId: "listProjects",
        tags,
        summary: "List an organization's projects",
        description: "The organization's owner sees all of them, others those that they have a role in.",
        params: S.OrganizationParams,
        querystring: PageQuery,
        response: { 200: answer("The projects.", S.ProjectPage), ...problems() },
      },
    },
    async (request) => {
      const { params, query } = request;
      return broker.projects(callerOf(request), idOf(params.organization_id), pageOf(query));
    },
  );

  app.get(
    "/projects/:project_id",
    {
      config: { action: "list" },
      schema: {
        operationId: "getProject",
        tags,
        summary: "Get a project",
        params: S.ProjectParams,
        response: { 200: answer("The project.", S.Project), ...problems(404) },
      },
    },
    async (request) => broker.project(callerOf(request), idOf(request.params.project_id)),
  );

  app.patch(
    "/projects/:project_id",
    {
      config: { action: "manage" },
      schema: {
        operationId: "patchProject",
        tags,
        summary: "Rename a project",
        consumes: ["application/json", "application/merge-patch+json"],
        params: S.ProjectParams,
        body: S.RenameBody,
        response: { 200: answer("The project as it is now.", S.Project), ...problems(404, 409, 413, 415) },
      },
    },
    async (request) => {
      const { params, body } = request;
      return broker.renameProject(callerOf(request), idOf(params.project_id), body.name);
    },
  );

  app.delete(
    "/projects/:project_id",
    {
      config: { action: "manage" },
      schema: {
        operationId: "deleteProject",
        tags,
        summary: "Delete a project",
        description: "409 while there are settings, unless `purge=true`.",
        params: S.ProjectParams,
        querystring: PurgeQuery,
        response: { 204: empty("Deleted."), ...problems(404, 409, 413, 415) },
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      await broker.removeProject(callerOf(request), idOf(params.project_id), query.purge ?? false);
      return reply.code(204).send();
    },
  );
}
