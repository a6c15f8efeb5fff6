// Organizations and projects: made, listed, renamed, removed. An organization's maker names its owner; a project
// has none of its own, since its organization's owners own it.
import { mayGlimpse } from "./access.ts";
import type { Owner } from "./address.ts";
import { badInput, conflict, notFound } from "./errors.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import type { Gate } from "./gate.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { NewId, OrganizationRecord, PageQuery, ProjectRecord, Transaction } from "./ports.ts";
import { visibleRows } from "./visible-rows.ts";
import type { Vault } from "./sealing-ports.ts";
import { type Organization, type Project, toOrganization, toProject } from "./views.ts";
import { nothing } from "./steps.ts";

const organization = (id: string): Owner => ({ owner_type: "organization", owner_id: id });
const project = (id: string): Owner => ({ owner_type: "project", owner_id: id });
const seen = (owner: Owner): Need => ({
  ask: { action: "list", path: null, breadth: "some" },
  place: { kind: "owner", owner },
});
const managed = (owner: Owner): Need => ({
  ask: { action: "manage", path: null, breadth: "whole" },
  place: { kind: "owner", owner },
});
const removed = (owner: Owner): Need => ({
  ask: { action: "manage", path: null, breadth: "whole", unscoped: true },
  place: { kind: "owner", owner },
});

export function createOwners(gate: Gate, vault: Vault, newId: NewId) {
  /** Removes an owner; with settings in it only when `purge` says so. */
  async function remove(caller: Caller, owner: Owner, purge: boolean): Promise<void> {
    await gate.change(caller, removed(owner), {
      prepare: nothing,
      lock: (tx) => tx.lockOwner(owner),
      apply: async (tx) => {
        if (!purge && (await tx.hasSettings(owner)))
          throw conflict("It still has settings (soft-deleted ones count); purge=true destroys them.");
        const subjects = (await tx.removeOwner(owner)).map(({ id, path }) => ({ id, path, version: null }));
        return { result: undefined, subjects, target_id: owner.owner_id, details: { change: "removed" } };
      },
    });
    vault.forget(owner.owner_id);
  }

  async function assertOrganizationName(tx: Transaction, name: string, id: string): Promise<void> {
    const taken = await tx.organizationByName(name);
    if (taken !== null && taken.id !== id) throw conflict("An organization has this name.", taken.id);
  }

  async function assertProjectName(
    tx: Transaction,
    parentId: string,
    name: string,
    id: string,
  ): Promise<void> {
    const taken = await tx.projectByName(parentId, name);
    if (taken !== null && taken.id !== id)
      throw conflict("A project of this organization has this name.", taken.id);
  }

  return {
    /** For instance admins. `ownerId`, a user (default: the caller), becomes its owner. */
    createOrganization(caller: Caller, name: string, ownerId: string | null): Promise<Organization> {
      return gate.change(
        caller,
        { ask: { action: "administer" }, place: { kind: "instance" } },
        {
          prepare: nothing,
          lock: nothing,
          apply: async (tx, grant) => {
            const id = newId();
            await assertOrganizationName(tx, name, id);
            const owner = await tx.principal(ownerId ?? grant.principal.id);
            if (owner?.kind !== "user")
              throw badInput("invalid_value", "body", "/owner_id", "owner_id names no user.");
            const stamp = { created_at: grant.at, created_by: grant.principal.id };
            const record = { id, name, ...stamp };
            await tx.insertOrganization(record);
            await tx.putMember({
              ...organization(id),
              tenant_id: id,
              principal_id: owner.id,
              role: "owner",
              ...stamp,
            });
            return {
              result: toOrganization(record),
              target_id: id,
              details: { change: "created", owner: owner.id },
            };
          },
        },
      );
    },

    /** The organizations that the caller has a role in. */
    organizations(caller: Caller, page: PageInput) {
      return gate.read(
        caller,
        { ask: { action: "identify" }, place: { kind: "self" } },
        async (grant, reader) => {
          const look = (query: PageQuery) => reader.organizationsOf(grant.principal.id, query);
          const isVisible = ({ id }: OrganizationRecord) => mayGlimpse(grant.principal, organization(id));
          return { found: await visibleRows(grant.principal, toPage(page), look, isVisible), action: "list" };
        },
        async (found) => ({
          organizations: found.rows.map(toOrganization),
          next_cursor: nextCursor(found, ({ id }) => id),
        }),
      );
    },

    organization(caller: Caller, id: string): Promise<Organization> {
      return gate.read(
        caller,
        seen(organization(id)),
        async (_grant, reader) => ({ found: (await reader.organization(id)) ?? raise() }),
        async (found) => toOrganization(found),
      );
    },

    renameOrganization(caller: Caller, id: string, name: string): Promise<Organization> {
      return gate.change(caller, managed(organization(id)), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(organization(id)),
        apply: async (tx) => {
          await assertOrganizationName(tx, name, id);
          const record = (await tx.organization(id)) ?? raise();
          await tx.renameOrganization(id, name);
          return {
            result: toOrganization({ ...record, name }),
            target_id: id,
            details: { change: "renamed" },
          };
        },
      });
    },

    removeOrganization: (caller: Caller, id: string, purge: boolean): Promise<void> =>
      remove(caller, organization(id), purge),

    createProject(caller: Caller, organizationId: string, name: string): Promise<Project> {
      return gate.change(caller, managed(organization(organizationId)), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(organization(organizationId)),
        apply: async (tx, grant) => {
          const id = newId();
          await assertProjectName(tx, organizationId, name, id);
          const stamp = { created_at: grant.at, created_by: grant.principal.id };
          const record = { id, organization_id: organizationId, name, ...stamp };
          await tx.insertProject(record);
          return { result: toProject(record), target_id: id, details: { change: "created" } };
        },
      });
    },

    /** An organization's owner sees all of its projects, others those that they have a role in. */
    projects(caller: Caller, organizationId: string, page: PageInput) {
      return gate.read(
        caller,
        seen(organization(organizationId)),
        async (grant, reader) => {
          const visibleTo = isOwner(grant) ? null : grant.principal.id;
          const isWhole = grant.decide("manage", null).verdict === "allow";
          const look = (query: PageQuery) => reader.projectsOf(organizationId, visibleTo, query);
          const isVisible = ({ id }: ProjectRecord) => isWhole || mayGlimpse(grant.principal, project(id));
          return { found: await visibleRows(grant.principal, toPage(page), look, isVisible) };
        },
        async (found) => ({
          projects: found.rows.map(toProject),
          next_cursor: nextCursor(found, ({ id }) => id),
        }),
      );
    },

    project(caller: Caller, id: string): Promise<Project> {
      return gate.read(
        caller,
        seen(project(id)),
        async (_grant, reader) => ({ found: (await reader.project(id)) ?? raise() }),
        async (found) => toProject(found),
      );
    },

    renameProject(caller: Caller, id: string, name: string): Promise<Project> {
      return gate.change(caller, managed(project(id)), {
        prepare: nothing,
        lock: (tx, grant) => tx.lockOwner(organization(keyOf(grant).tenant_id)),
        apply: async (tx) => {
          const record = (await tx.project(id)) ?? raise();
          await assertProjectName(tx, record.organization_id, name, id);
          await tx.renameProject(id, name);
          return { result: toProject({ ...record, name }), target_id: id, details: { change: "renamed" } };
        },
      });
    },

    removeProject: (caller: Caller, id: string, purge: boolean): Promise<void> =>
      remove(caller, project(id), purge),
  };
}

/** By the role: a scope that keeps some projects from the caller keeps the others no less theirs. */
function isOwner(grant: Grant): boolean {
  const decision = grant.decide("manage", null);
  return decision.verdict === "allow" || decision.reason === "token_scope";
}

/** It was there when the right was decided, and is gone since. */
function raise(): never {
  throw notFound();
}
