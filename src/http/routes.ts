// Every route of the broker's nouns, in the order that openapi.yaml shows them.
import type { RegisterRoutes } from "./app.ts";
import { auditRoutes } from "./routes/audit.ts";
import { bulkRoutes } from "./routes/bulk.ts";
import { eventsRoutes } from "./routes/events.ts";
import { identityProvidersRoutes } from "./routes/identity-providers.ts";
import { lifecycleRoutes } from "./routes/lifecycle.ts";
import { membersRoutes } from "./routes/members.ts";
import { ownerManagersRoutes } from "./routes/owner-managers.ts";
import { ownersRoutes } from "./routes/owners.ts";
import { principalsRoutes } from "./routes/principals.ts";
import { referencesRoutes } from "./routes/references.ts";
import { rotationRoutes } from "./routes/rotation.ts";
import { settingsRoutes } from "./routes/settings.ts";
import { signInRoutes } from "./routes/sign-in.ts";
import { tokensRoutes } from "./routes/tokens.ts";
import { webhooksRoutes } from "./routes/webhooks.ts";

export const registerRoutes: RegisterRoutes = (app, broker, signIn) => {
  settingsRoutes(app, broker);
  lifecycleRoutes(app, broker);
  bulkRoutes(app, broker);
  rotationRoutes(app, broker);
  webhooksRoutes(app, broker);
  eventsRoutes(app, broker);
  referencesRoutes(app, broker);
  ownersRoutes(app, broker);
  ownerManagersRoutes(app, broker);
  membersRoutes(app, broker);
  principalsRoutes(app, broker);
  tokensRoutes(app, broker);
  identityProvidersRoutes(app, broker);
  signInRoutes(app, broker, signIn);
  auditRoutes(app, broker);
};
