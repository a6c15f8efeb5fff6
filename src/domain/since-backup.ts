// What a restore brings back, or leaves behind, that the log of the time after the backup tells of: for who has to put
// it right by hand. Values that were destroyed since are there again; rights that were taken are held again; what was
// written since is gone.
import type { AuditEvent } from "./audit.ts";

export type Since = {
  readonly what: "destroyed" | "deleted" | "right_taken" | "written";
  readonly at: Date;
  readonly event_id: string;
  readonly text: string;
};

export function sinceBackup(event: AuditEvent): readonly Since[] {
  if (event.outcome !== "allowed") return [];
  const { at, id: event_id, details, target_id, operation } = event;
  const place = `${event.owner_type}/${event.owner_id ?? ""}`;
  const about = (what: Since["what"], texts: readonly string[]): readonly Since[] =>
    texts.map((text) => ({ what, at, event_id, text }));
  const settings = event.settings.map(
    ({ path, version }) => `${place}/${path}${version === null ? "" : `?version=${version}`}`,
  );
  switch (details["change"] ?? "") {
    case "purged":
    case "version_destroyed":
      return about("destroyed", settings);
    case "removed":
      return about("destroyed", [`${place} (${operation} ${target_id ?? ""})`, ...settings]);
    case "deleted":
      return about("deleted", settings);
    case "role_taken":
      return about("right_taken", [
        `${details["role_before"] ?? "a role"} of ${target_id ?? ""} at ${place}`,
      ]);
    case "role_given":
      if (details["role_before"] === undefined) return [];
      return about("right_taken", [
        `${details["role_before"]} of ${target_id ?? ""} at ${place}, who was given ${details["role"] ?? ""}`,
      ]);
    default:
      if (details["disabled"] === "true" || details["admin"] === "false")
        return about("right_taken", [
          `${details["admin"] === "false" ? "admin" : "access"} of ${target_id ?? ""}`,
        ]);
      return event.action === "write" ? about("written", settings) : [];
  }
}
