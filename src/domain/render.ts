// Rendering: the matching settings in their consumer's form. A decrypting read in all but the shape of its answer,
// and strict: what may not be decrypted refuses the whole, since a file with a hole in it would be believed.
import type { Owner, SettingType } from "./address.ts";
import { parsePathQuery } from "./address.ts";
import type { Caller, Need } from "./admission.ts";
import { BrokerError } from "./errors.ts";
import type { Found, Gate } from "./gate.ts";
import { openAll, subjectOf } from "./opening.ts";
import type { Store, Vault } from "./ports.ts";
import { type RenderFormat, renderAs } from "./render-formats.ts";
import { type Choice, chooseRows, placeOf } from "./settings-read.ts";

const RENDER_BYTES_MAX = 1_048_576;
const SETTINGS_MAX = 1000;

export type RenderInput = {
  readonly owner: Owner;
  readonly path?: string;
  readonly match?: "auto" | "exact" | "under";
  readonly version?: number;
  readonly type?: SettingType;
  readonly label?: { readonly key: string; readonly value: string };
  readonly format: RenderFormat;
  /** Goes before each name. */
  readonly prefix: string;
};

export function createRender(gate: Gate, vault: Vault, store: Pick<Store, "noteAccess">) {
  return {
    /** @throws BrokerError as a decrypting read, and `invalid_value`, `conflict` or `too_large` for what does not fit */
    async render(
      caller: Caller,
      { format, prefix, ...input }: RenderInput,
    ): Promise<{ text: string; opened: number }> {
      const select = parsePathQuery(input.path, input.match);
      const need: Need = {
        ask: { action: "decrypt", path: placeOf(select), breadth: "some" },
        place: { kind: "owner", owner: input.owner },
      };
      const query = { ...input, decrypt: true, include_deleted: false, limit: SETTINGS_MAX };
      return gate.read(
        caller,
        need,
        async (grant, reader): Promise<Found<readonly Choice[]>> => {
          const { choices, next } = await chooseRows(query, select, grant, reader, vault);
          if (next !== null) throw tooLarge();
          for (const { row, withhold } of choices) {
            if (withhold === null) continue;
            if (withhold === "insufficient_role" || withhold === "token_scope")
              grant.require("decrypt", row.setting.path);
            const code = withhold === "expired" ? "expired" : "destroyed";
            throw new BrokerError(code, `${row.setting.path} is ${code}.`, { paths: [row.setting.path] });
          }
          return { found: choices, subjects: choices.map(({ row }) => subjectOf(row)) };
        },
        async (choices, permit, grant) => {
          const rows = choices.map(({ row }) => row);
          const { opened } = await openAll(vault, permit, rows, "fail");
          const items = [...opened].map(([{ setting }, plaintext]) => ({
            setting,
            value: plaintext.reveal(),
          }));
          const text = renderAs(format, items, prefix);
          if (Buffer.byteLength(text) > RENDER_BYTES_MAX) throw tooLarge();
          store.noteAccess(rows, grant.at);
          return { text, opened: rows.length };
        },
      );
    },
  };
}

function tooLarge(): BrokerError {
  return new BrokerError(
    "too_large",
    "A render holds at most 1 MiB and 1000 settings; narrow the path, type or label.",
  );
}
