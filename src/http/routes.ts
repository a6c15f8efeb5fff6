// Every route of the broker's nouns, in the order that openapi.yaml shows them.
import type { RegisterRoutes } from "./app.ts";
import { auditRoutes } from "./routes/audit.ts";
import { membersRoutes } from "./routes/members.ts";
import { ownersRoutes } from "./routes/owners.ts";
import { principalsRoutes } from "./routes/principals.ts";
import { settingsRoutes } from "./routes/settings.ts";
import { tokensRoutes } from "./routes/tokens.ts";

export const registerRoutes: RegisterRoutes = (app, broker) => {
  settingsRoutes(app, broker);
  ownersRoutes(app, broker);
  membersRoutes(app, broker);
  principalsRoutes(app, broker);
  tokensRoutes(app, broker);
  auditRoutes(app, broker);
};
