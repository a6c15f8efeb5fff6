// The broker: every use case, each taking the caller first, all behind the one gate. Made once, in compose-broker.ts.
import { createAuditRead } from "./audit-read.ts";
import { type RetentionDeps, createAuditRetention } from "./audit-retention.ts";
import type { Caller, RefusalLimit } from "./admission.ts";
import { createChangeFeed } from "./change-feed.ts";
import { createDue } from "./due.ts";
import { createGate } from "./gate.ts";
import type { IdentityVerifier, SigningKeyMaker, TrustedIssuer } from "./federation-ports.ts";
import { createIdentityProviders } from "./identity-providers.ts";
import { createImport } from "./import.ts";
import { createKeys } from "./keys.ts";
import type { LifecycleReseal } from "./reseal.ts";
import { createManagedSecrets } from "./managed-secrets.ts";
import { createMembers } from "./members.ts";
import { createMoves } from "./moves.ts";
import { createOwnerManagers } from "./owner-managers.ts";
import { createOwners } from "./owners.ts";
import type { ChangeLog, ValueGenerator, WebhookSender } from "./lifecycle-ports.ts";
import type { Clock, NewId, Store } from "./ports.ts";
import type { TokenMaker } from "./tokens.ts";
import type { Vault } from "./sealing-ports.ts";
import { createRender } from "./render.ts";
import { NO_QUOTAS, type Quotas } from "./quotas.ts";
import { createReport } from "./report.ts";
import { createResolve } from "./resolve.ts";
import { createRotate } from "./rotate.ts";
import { createRotationWork } from "./rotation-work.ts";
import { createServiceAccounts } from "./service-accounts.ts";
import { createSettingChange } from "./setting-change.ts";
import { createSettingsRead } from "./settings-read.ts";
import { createSettingsRemove } from "./settings-remove.ts";
import { createSettingsWrite } from "./settings-write.ts";
import { createSignIn } from "./sign-in.ts";
import { createSigning } from "./signing.ts";
import { createStandings } from "./standings.ts";
import { createTokens } from "./tokens.ts";
import { createTransfer } from "./transfer.ts";
import { createUsers } from "./users.ts";
import { createValueRead } from "./value-read.ts";
import { createWebhooks } from "./webhooks.ts";

export type BrokerDeps = {
  readonly store: Store;
  readonly vault: Vault;
  readonly tokens: TokenMaker;
  readonly refusals: RefusalLimit;
  readonly verifier: IdentityVerifier;
  /** The identity providers whose subjects may sign in as persons. */
  readonly instanceIssuers: readonly TrustedIssuer[];
  readonly signingKeys: SigningKeyMaker;
  readonly changes: ChangeLog;
  readonly values: ValueGenerator;
  readonly webhookSender: WebhookSender;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly lifecycle: LifecycleReseal;
  /** Milliseconds of a clock that only goes forward. */
  readonly ticks: () => number;
  /** Told of what fails where nobody waits. */
  readonly onBackgroundError: (error: unknown) => void;
  readonly auditRetention: RetentionDeps;
  /** Days for which a soft-deleted setting can be restored. */
  readonly recoveryDays: number;
  /** What one owner may keep. */
  readonly quotas?: Quotas;
};

export type Broker = ReturnType<typeof createBroker>;

export function createBroker(deps: BrokerDeps) {
  const { store, vault, tokens, refusals, clock, newId, recoveryDays } = deps;
  const gate = createGate({ store, clock, newId, refusals });
  const change = createSettingChange(gate, vault, deps.quotas ?? NO_QUOTAS);
  const managed = createManagedSecrets({ ...deps, gate });
  const moves = createMoves({ ...deps, gate, managed });
  const write = createSettingsWrite(change, vault, managed, newId);
  const remove = createSettingsRemove(gate, change, vault, managed, recoveryDays);
  const signing = createSigning(gate, deps.signingKeys, vault);
  return {
    /** Finds out who calls, and nothing else. @throws BrokerError `unauthenticated` */
    identify: (caller: Caller): Promise<void> => gate.identify(caller),
    ...createSettingsRead(gate, vault, store),
    ...createValueRead(gate, vault, store),
    ...createResolve(gate, vault, store),
    ...createRender(gate, vault, store),
    ...write,
    ...remove,
    ...createImport(gate, change, vault, newId),
    ...createRotate(gate, change, vault, managed, deps.values, newId),
    ...createRotationWork(gate, vault, deps.webhookSender),
    ...createWebhooks(gate, deps.webhookSender, vault, newId),
    ...createDue(gate, store.reader, clock),
    feed: createChangeFeed(gate, deps.changes),
    ...createTransfer(gate, vault, { ...write, ...remove }),
    ...createReport(gate, vault),
    /** Sees to secrets in managers that the database no longer points at, or not yet; answers how many. */
    settleManagedSecrets: (limit: number): Promise<number> => managed.settle(null, limit),
    /** Works on moves of owners' values, until there is none that nobody works on. */
    runMoves: (): Promise<void> => moves.run(),
    /** Resolves when nothing is under way any more that nobody waits for. */
    drain: async (): Promise<void> => {
      await moves.stop();
      await managed.drain();
    },
    ...createOwnerManagers(gate, vault, moves, newId),
    ...createOwners(gate, vault, newId),
    ...createMembers(gate),
    ...createUsers(gate, vault, tokens, newId),
    ...createServiceAccounts(gate, newId),
    ...createStandings(gate),
    ...createTokens(gate, tokens, newId),
    ...createSignIn(gate, deps.verifier, deps.instanceIssuers, store, tokens, newId),
    ...createIdentityProviders(gate, deps.verifier, newId),
    ...signing,
    ...createKeys({ ...deps, gate, managed, signing }),
    ...createAuditRead(gate),
    ...createAuditRetention(gate, deps.auditRetention),
  };
}
