// What openapi.yaml says of the whole and of each group of routes.

/** In the order in which a reader wants them. */
export const TAGS: readonly (readonly [string, string])[] = [
  ["Settings", "Secrets: reading, writing, versions. A setting's address is its owner and its path."],
  ["References", "Text that names a setting, resolved; settings rendered for the programs that use them."],
  ["Lifecycle", "What is due, what is unused, what changed: reports, rotation, bulk."],
  ["Webhooks", "Who is told of changes: by signed messages, or by a stream of events."],
  ["Organizations", "Owners that hold projects, service accounts and settings."],
  ["Projects", "Owners within an organization."],
  ["Members", "Who holds which role at an organization or project."],
  ["Managers", "Where an owner's new settings go, and the moving of its old ones."],
  ["Users", "People. An instance admin enrols them."],
  ["Service accounts", "What workers run as."],
  [
    "Identity providers",
    "Whose tokens an organization's workloads sign in with, and as which service accounts.",
  ],
  ["Tokens", "API tokens: made, listed, revoked. A token is shown once."],
  ["Authentication", "Who calls, and what they may do."],
  ["Audit", "Who read or changed what. An event is durable before its answer leaves."],
  ["Service", "The broker itself; no token is needed."],
];

export const DESCRIPTION = [
  "A secrets broker: it keeps settings sealed, decides who may read them, and writes down who did.",
  "Every answer has an `X-Request-ID`: the request's own where that is up to 128 of `A-Z a-z 0-9 . _ -`, else a new " +
    "one. Times are RFC 3339 in UTC; ids are UUIDs. An unknown or repeated query parameter is an error. Lists of " +
    "words in answers are open: a later version may add members. Failures are RFC 9457 problems with a stable `code`.",
  "What a token costs is limited: a request is one unit, each value opened one more. `RateLimit-Limit`, " +
    "`RateLimit-Remaining` and `RateLimit-Reset` (seconds) say what is left.",
].join("\n\n");
