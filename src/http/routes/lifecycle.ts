// The lifecycle of settings: what is due and what is dead.
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given } from "../input.ts";
import { problems } from "../problem.ts";
import { answer } from "../schemas/kit.ts";
import { LifecycleReport, ReportQuery } from "../schemas/report.ts";

const tags = ["Lifecycle"];

export function lifecycleRoutes(app: App, broker: Broker): void {
  app.get(
    "/settings/report",
    {
      config: { action: "list" },
      schema: {
        operationId: "reportSettings",
        tags,
        summary: "What is due and what is dead",
        description:
          "Settings whose rotation is overdue, that expire or have expired, that nobody reads, or of which somebody " +
          "still reads an old version; and tokens that lie idle. The role `read` suffices, at the owner as a whole.",
        querystring: ReportQuery,
        response: { 200: answer("The report.", LifecycleReport), ...problems() },
      },
    },
    async (request) => {
      const { owner_type, owner_id, within_days, unused_days, limit, ...rest } = request.query;
      const owner = parseOwner(owner_type, owner_id);
      const spans = { within_days: within_days ?? 30, unused_days: unused_days ?? 90 };
      return broker.report(callerOf(request), given({ owner, ...spans, limit: limit ?? 1000, ...rest }));
    },
  );
}
