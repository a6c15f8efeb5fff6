// The report on what is due and what is dead, and the answer to "who would miss it?". Metadata alone.
import { Type } from "./type.ts";
import { FINDINGS } from "../../domain/lifecycle-ports.ts";
import { EXAMPLE, Id, NextCursor, OwnerTypeOut, Time, TimeOrNull, paging } from "./common.ts";
import { Fields, List, Nullable, OpenOneOf, component } from "./kit.ts";
import { address } from "./settings-input.ts";

const DAYS_MAX = 3650;
const span = (fallback: number, description: string) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: DAYS_MAX, default: fallback, description }));

export const ReportQuery = Fields({
  ...address,
  within_days: span(30, "What expires within so many days is `expiring`."),
  unused_days: span(90, "What was last read longer ago than so many days is `unread`."),
  ...paging(1000),
});

const count = (description: string) => Type.Integer({ minimum: 0, description });
const VersionNumber = Type.Integer({ minimum: 1, description: "Which version." });
const EXAMPLE_READER = {
  principal_id: EXAMPLE.serviceAccount,
  version: 1,
  last_read_at: EXAMPLE.at,
};

const SettingReader = component(
  "SettingReader",
  Fields(
    {
      principal_id: Id("Who read it."),
      version: VersionNumber,
      last_read_at: Time("When they last did, give or take five minutes."),
    },
    { description: "Who reads which version of a setting.", examples: [EXAMPLE_READER] },
  ),
);

const EXAMPLE_REPORT = {
  owner_type: "project",
  owner_id: EXAMPLE.project,
  at: EXAMPLE.at,
  within_days: 30,
  unused_days: 90,
  totals: {
    settings: 12,
    rotation_overdue: 1,
    expiring: 0,
    expired: 0,
    never_read: 3,
    unread: 2,
    pinned_readers: 1,
  },
  settings: [
    {
      owner_type: "project",
      owner_id: EXAMPLE.project,
      id: EXAMPLE.setting,
      path: EXAMPLE.path,
      version: 2,
      findings: ["rotation_overdue", "pinned_readers"],
      rotation_due_at: EXAMPLE.at,
      expires_at: null,
      last_accessed_at: EXAMPLE.at,
      pinned_readers: [EXAMPLE_READER],
    },
  ],
  tokens: [
    {
      id: EXAMPLE.token,
      principal_id: EXAMPLE.serviceAccount,
      name: "trainer",
      findings: ["unused"],
      expires_at: EXAMPLE.later,
      last_used_at: null,
    },
  ],
  next_cursor: null,
};

const Totals = Fields(
  {
    settings: count("All live settings."),
    rotation_overdue: count("Their value has lived longer than `rotate_after_days`."),
    expiring: count("They expire within `within_days`."),
    expired: count("They have expired."),
    never_read: count("No value of theirs was ever disclosed."),
    unread: count("None was for `unused_days`."),
    pinned_readers: count("Somebody reads an older version, though it was replaced."),
  },
  { description: "How many settings have each finding: of all pages together." },
);

const ReportedSetting = component(
  "ReportedSetting",
  Fields(
    {
      owner_type: OwnerTypeOut,
      owner_id: Id("Who owns it."),
      id: Id("The setting's id."),
      path: Type.String({ description: "The setting's path." }),
      version: VersionNumber,
      findings: List(OpenOneOf(FINDINGS), { description: "What there is to be done about it." }),
      rotation_due_at: TimeOrNull("When the current value has lived as long as it ought to."),
      expires_at: TimeOrNull("From then on the value is withheld."),
      last_accessed_at: TimeOrNull("When a value was last disclosed."),
      pinned_readers: List(SettingReader, {
        description: "Who read an older version after it was replaced, within `unused_days`.",
      }),
    },
    { description: "A setting about which something is to be done.", examples: EXAMPLE_REPORT.settings },
  ),
);
const ReportedToken = component(
  "ReportedToken",
  Fields(
    {
      id: Id("The token's id."),
      principal_id: Id("Whose it is."),
      name: Type.String({ description: "What its maker called it." }),
      findings: List(OpenOneOf(["expiring", "unused"]), {
        description: "What there is to be done about it.",
      }),
      expires_at: TimeOrNull("When it ends."),
      last_used_at: TimeOrNull("When it was last used, give or take five minutes."),
    },
    { description: "A token that lies idle or is about to end.", examples: EXAMPLE_REPORT.tokens },
  ),
);

export const LifecycleReport = component(
  "LifecycleReport",
  Fields(
    {
      owner_type: OwnerTypeOut,
      owner_id: Id("Whose settings; an organization's owner sees its projects' as well."),
      at: Time("As of when."),
      within_days: count("As asked for."),
      unused_days: count("As asked for."),
      totals: Totals,
      settings: List(ReportedSetting, { description: "Those with a finding." }),
      tokens: List(ReportedToken, {
        description:
          "Of service accounts, for whoever may list theirs (at most 1,000); for others, the caller's own.",
      }),
      next_cursor: NextCursor,
    },
    { description: "What is due and what is dead.", examples: [EXAMPLE_REPORT] },
  ),
);

export const RemovalPreview = component(
  "RemovalPreview",
  Fields(
    {
      path: Type.String({ description: "The setting's path." }),
      version: Nullable(VersionNumber, {
        description: "The one version that is asked about; null: all of them.",
      }),
      days: count("How far back readers were looked for."),
      last_accessed_at: TimeOrNull("When any value of it was last disclosed."),
      readers: List(SettingReader, { description: "Who read it since; empty: nobody." }),
    },
    {
      description: "Who would miss a setting, or a version of it.",
      examples: [
        {
          path: EXAMPLE.path,
          version: null,
          days: 90,
          last_accessed_at: EXAMPLE.at,
          readers: [EXAMPLE_READER],
        },
      ],
    },
  ),
);
