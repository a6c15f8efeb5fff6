// The human reference: one page of HTML, made from the OpenAPI document alone. It needs no script and nothing from
// elsewhere. All text is escaped; `code` and paragraphs are the only markup that a description may have.
import { PROBLEMS } from "./problem.ts";
import type { Document } from "./openapi.ts";

type Node = { readonly [key: string]: unknown };
const METHODS = ["get", "post", "put", "patch", "delete"];

export const DOCS_STYLE = `
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5b6675;--line:#dde2e9;--back:#fff;--shade:#f5f7fa;--accent:#0b5d57}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--line:#2c3440;--back:#12161c;--shade:#1a2029;--accent:#5cc9bd}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,sans-serif;display:grid;grid-template-columns:17rem minmax(0,1fr)}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1.5rem 1rem;border-right:1px solid var(--line);background:var(--shade);font-size:.86rem}
nav h2{font-size:.75rem;text-transform:uppercase;letter-spacing:.06em;color:var(--soft);margin:1.2rem 0 .3rem}
nav ul{list-style:none;margin:0;padding:0}
nav a{display:block;padding:.13rem .4rem;border-radius:4px;color:inherit;text-decoration:none}
nav a:hover{background:var(--line)}
main{padding:2rem 3rem 6rem;max-width:60rem}
h1{font-size:2rem;margin:0 0 .5rem}
h2{margin:3rem 0 .5rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
article{margin:2rem 0;padding:1.2rem 1.4rem;border:1px solid var(--line);border-radius:8px}
article h3{margin:0 0 .4rem;font-size:1.08rem}
h4{margin:1.1rem 0 .3rem;font-size:.8rem;text-transform:uppercase;letter-spacing:.05em;color:var(--soft)}
.call{font-family:ui-monospace,monospace;font-size:.92rem;margin:0 0 .6rem}
.method{display:inline-block;min-width:4.2rem;font-weight:700;color:var(--accent)}
.need{color:var(--soft);font-size:.85rem}
code,pre{font-family:ui-monospace,monospace;font-size:.86em}
code{background:var(--shade);padding:.08em .3em;border-radius:3px}
pre{background:var(--shade);border:1px solid var(--line);border-radius:6px;padding:.8rem;overflow:auto;line-height:1.4}
pre code{background:none;padding:0}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft)}
a{color:var(--accent)}
summary{cursor:pointer;color:var(--soft);font-size:.88rem}
@media (max-width:52rem){body{display:block}nav{position:static;height:auto;border-right:0}main{padding:1.5rem}}
`;

/** @returns the whole page */
export function renderDocs(document: Document): string {
  const { info, tags, components } = document;
  const sections = tags.map(({ name, description }) => {
    return { name, description, operations: operationsOf(document, name) };
  });
  const schemas = Object.entries(components["schemas"] ?? {});
  const links = sections.map(
    ({ name, operations }) =>
      `<h2>${escape(name)}</h2><ul>${operations.map(({ id, summary }) => `<li><a href="#${id}">${summary}</a></li>`).join("")}</ul>`,
  );
  const more = `<h2>Reference</h2><ul><li><a href="#errors">Errors</a></li><li><a href="#schemas">Schemas</a></li><li><a href="/openapi.yaml">openapi.yaml</a></li></ul>`;
  const described = sections.map(
    ({ name, description, operations }) =>
      `<section><h2>${escape(name)}</h2>${prose(description)}${operations.map(({ html }) => html).join("")}</section>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Coffer ${escape(info["version"])}: reference</title><style>${DOCS_STYLE}</style></head>
<body><nav><a href="#top"><strong>Coffer</strong> ${escape(info["version"])}</a>${links.join("")}${more}</nav>
<main id="top"><h1>Coffer</h1>${prose(info["description"])}${described.join("")}
<section id="errors"><h2>Errors</h2>${prose("Each failure is `application/problem+json`. Its `code` is for programs and stays; its `detail` is for people and may be worded anew.")}${errors()}</section>
<section id="schemas"><h2>Schemas</h2>${schemas.map(([name, schema]) => schemaSection(name, schema)).join("")}</section>
</main></body></html>
`;
}

type Shown = { readonly id: string; readonly summary: string; readonly html: string };

function operationsOf({ paths, components }: Document, tag: string): Shown[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    METHODS.flatMap((method) => {
      const operation = methods[method];
      if (operation === undefined || !list(operation["tags"]).includes(tag)) return [];
      const id = escape(operation["operationId"]);
      const summary = escape(operation["summary"]);
      const action = operation["x-coffer-action"];
      const need = action === "public" ? "No token is needed." : `Action: <code>${escape(action)}</code>`;
      const html = `<article id="${id}"><h3>${summary}</h3>
<p class="call"><span class="method">${method.toUpperCase()}</span> ${escape(path)}</p><p class="need">${need}</p>
${prose(operation["description"])}${parameters(list(operation["parameters"]))}${body(operation["requestBody"])}${answers(operation["responses"], components["responses"] ?? {})}</article>`;
      return [{ id, summary, html }];
    }),
  );
}

function parameters(given: readonly unknown[]): string {
  if (given.length === 0) return "";
  const rows = given.map((each) => {
    const { name, in: place, required, description, schema } = node(each);
    const need = required === true ? "" : " <span class=need>optional</span>";
    return `<tr><td><code>${escape(name)}</code>${need}</td><td>${escape(place)}</td><td>${typeOf(schema)}</td><td>${inline(description)}</td></tr>`;
  });
  return `<h4>Parameters</h4><table><thead><tr><th>Name</th><th>In</th><th>Type</th><th></th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

function body(given: unknown): string {
  const [[type, media] = []] = Object.entries(node(node(given)["content"]));
  if (type === undefined) return "";
  return `<h4>Body</h4><p><code>${escape(type)}</code> ${typeOf(node(media)["schema"])}</p>${examples(media)}`;
}

function answers(given: unknown, shared: Node): string {
  const rows = Object.entries(node(given)).map(([status, response]) => {
    const reference = node(response)["$ref"];
    const name = typeof reference === "string" ? reference.slice(reference.lastIndexOf("/") + 1) : null;
    const { description, content } = name === null ? node(response) : node(shared[name]);
    if (name !== null) return `<tr><td>${status}</td><td>${codesOf(Number(status))}</td></tr>`;
    const medias = Object.entries(node(content)).map(
      ([type, media]) =>
        `<p><code>${escape(type)}</code> ${typeOf(node(media)["schema"])}</p>${examples(media)}`,
    );
    return `<tr><td>${status}</td><td>${inline(description)}${medias.join("")}</td></tr>`;
  });
  return `<h4>Answers</h4><table><tbody>${rows.join("")}</tbody></table>`;
}

function codesOf(status: number): string {
  const codes = Object.entries(PROBLEMS).filter(([, kind]) => kind.status === status);
  return codes.map(([code]) => `<a href="#${code}"><code>${code}</code></a>`).join(" ");
}

function examples(media: unknown): string {
  const { example, examples } = node(media);
  const named = Object.entries(node(examples)).map(([name, each]) => [name, node(each)["value"]] as const);
  const all = example === undefined ? named : ([["Example", example], ...named] as const);
  return all
    .map(([name, value]) => {
      const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
      return `<details><summary>${escape(name)}</summary><pre><code>${escape(text)}</code></pre></details>`;
    })
    .join("");
}

function errors(): string {
  const rows = Object.entries(PROBLEMS).map(
    ([code, { status, title, when }]) =>
      `<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td><strong>${escape(title)}.</strong> ${inline(when)}</td></tr>`,
  );
  return `<table><thead><tr><th>Status</th><th>Code</th><th></th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

function schemaSection(name: string, schema: Node): string {
  const required = list(schema["required"]);
  const rows = Object.entries(node(schema["properties"])).map(
    ([field, inner]) =>
      `<tr><td><code>${escape(field)}</code>${required.includes(field) ? "" : " <span class=need>optional</span>"}</td><td>${typeOf(inner)}</td><td>${inline(node(inner)["description"])}</td></tr>`,
  );
  const fields =
    rows.length === 0 ? `<p>${typeOf(schema)}</p>` : `<table><tbody>${rows.join("")}</tbody></table>`;
  return `<article id="schema-${escape(name)}"><h3>${escape(name)}</h3>${prose(schema["description"])}${fields}</article>`;
}

function typeOf(schema: unknown): string {
  const {
    $ref: reference,
    type,
    enum: words,
    items,
    oneOf,
    anyOf,
    allOf,
    additionalProperties,
    nullable,
    format,
  } = node(schema);
  const orNull = nullable === true ? " or null" : "";
  if (typeof reference === "string") {
    const name = escape(reference.slice(reference.lastIndexOf("/") + 1));
    return `<a href="#schema-${name}">${name}</a>`;
  }
  // All of one: what may be null is written so.
  const alternatives = [...list(oneOf), ...list(anyOf), ...list(allOf)];
  if (alternatives.length > 0) return alternatives.map(typeOf).join(" or ") + orNull;
  if (Array.isArray(words)) return words.map((word) => `<code>${escape(word)}</code>`).join(" ") + orNull;
  if (type === "array") return `list of ${typeOf(items)}${orNull}`;
  if (type === "object" && typeof additionalProperties === "object")
    return `map of ${typeOf(additionalProperties)}${orNull}`;
  return `${escape(format ?? type ?? "any")}${orNull}`;
}

function prose(text: unknown): string {
  if (typeof text !== "string") return "";
  return text
    .split("\n\n")
    .map((paragraph) => `<p>${inline(paragraph)}</p>`)
    .join("");
}

function inline(text: unknown): string {
  return escape(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escape(text: unknown): string {
  const plain = typeof text === "string" || typeof text === "number" ? String(text) : "";
  return plain.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}

function node(candidate: unknown): Node {
  return typeof candidate === "object" && candidate !== null ? (candidate as Node) : {};
}

function list(candidate: unknown): readonly unknown[] {
  return Array.isArray(candidate) ? candidate : [];
}
