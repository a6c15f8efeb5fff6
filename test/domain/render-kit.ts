// What the tests of renderings share: settings to render, and hostile values.
import fc from "fast-check";
import type { SettingType } from "../../src/domain/address.ts";
import { BrokerError } from "../../src/domain/errors.ts";
import type { SettingValue } from "../../src/domain/plaintext.ts";
import { type Rendered, type ValueFormat, renderAs } from "../../src/domain/render-formats.ts";
import type { SettingRecord } from "../../src/domain/setting.ts";

export const OWNER = "01981c5e-9c44-7e0a-b6d5-1f2a3b4c5d6e";

export function item(path: string, value: SettingValue, more: Partial<SettingRecord> = {}): Rendered {
  const type: SettingType = path.startsWith("secret")
    ? "custom"
    : path.includes("S3")
      ? "s3"
      : "container_registry";
  const setting = {
    owner_type: "project",
    owner_id: OWNER,
    path,
    type,
    labels: {},
    expires_at: null,
    ...more,
  };
  return { setting: setting as SettingRecord, value };
}
export const custom = (value: string, name = "value", labels = {}) =>
  item(`secret/Custom/${name}`, value, { labels });
export const render = (
  format: ValueFormat,
  items: readonly Rendered[],
  prefix = "",
  place: string | null = null,
) => renderAs(format, items, { prefix, place });

export function errorOf(work: () => unknown): BrokerError {
  try {
    work();
  } catch (error) {
    if (error instanceof BrokerError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

export const HOSTILE = [
  "'",
  '"',
  "''\"\"''",
  "it's",
  "'; touch /tmp/coffer-pwned; '",
  "$(id)",
  "`id`",
  "${HOME}",
  "$HOME $$ $1 $@",
  "a\nb",
  "\n\n",
  "line\nexport EVIL=1\n",
  "EVIL=1",
  " leading and trailing ",
  "\ttab\t",
  "# no comment",
  "a # b",
  "a=b=c",
  "=",
  "back\\slash",
  "\\",
  "\\\\",
  "\\n",
  "\\'",
  '\\"',
  "ends in \\",
  "a\rb",
  "a\r\nb\r",
  "!history !!",
  "~ * ? [a-z] {a,b}",
  "& | ; < > ( )",
  "%s %n %%",
  "héllo wörld",
  "日本語 🔑 \u{1F469}\u200D\u{1F4BB}",
  "\u202Ertl",
  "\uFEFFbom",
  "a\u2028b\u2029c",
  "\u0001\u001b[31m\u007f",
  "null",
  "true",
  "yes",
  "1e3",
  "-",
  "- a",
  "key: value",
  "|",
  "&anchor *alias !tag",
  '{"json": "it\'s \\"quoted\\""}',
  "-----BEGIN KEY-----\nAAAA+/==\n-----END KEY-----\n",
  "x".repeat(65_536),
];
const piece = fc.oneof(
  fc.constantFrom(...HOSTILE.filter(({ length }) => length < 100)),
  fc.string({ unit: "binary", maxLength: 6 }),
);
export const hostile = fc
  .array(piece, { minLength: 1, maxLength: 5 })
  .map((pieces) => pieces.join("").replaceAll("\0", ""))
  .filter((text) => text !== "" && text.isWellFormed());
export const many = fc.array(hostile, { minLength: 10, maxLength: 40 });
export const numbered = (values: readonly string[]) =>
  values.map((value, index) => custom(value, `v${index}`));
