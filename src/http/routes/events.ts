// GET /settings/events: changes as they happen, as Server-Sent Events. Each carries an id; a listener that comes back with
// the last one it heard misses nothing, and hears that as fast as it reads. One that then does not keep up is let go, and
// comes back.
import { Readable } from "node:stream";
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import { payloadOf } from "../../domain/change-events.ts";
import { type Told, parsePosition } from "../../domain/change-feed.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { problems } from "../problem.ts";
import { stream } from "../schemas/kit.ts";
import { EventsHeaders, EventsQuery } from "../schemas/webhooks.ts";

const HEARTBEAT_MS = 15_000;
/** What a listener may leave unread. */
const BEHIND_BYTES_MAX = 1_048_576;
const RETRY_MS = 1_000;

/** Written once, however many listen. */
const texts = new WeakMap<object, string>();

function textOf(event: Told): string {
  const known = texts.get(event);
  if (known !== undefined) return known;
  const text = messageOf(event.position, event.kind, payloadOf(event));
  texts.set(event, text);
  return text;
}

const messageOf = (id: bigint, type: string, data: object): string =>
  `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`;

export function eventsRoutes(app: App, broker: Broker): void {
  const streams = new Set<() => void>();
  // Open streams would hold up the closing of the server: they end first, and come back to another replica.
  app.addHook("preClose", (done) => {
    for (const end of streams) end();
    done();
  });

  app.get(
    "/settings/events",
    {
      config: { action: "list" },
      schema: {
        operationId: "streamSettingEvents",
        tags: ["Webhooks"],
        summary: "Hear of changes as they happen",
        description:
          "A stream of Server-Sent Events: the `event` is the change's type, the `data` JSON as webhooks get it, without " +
          "any value. `ready` comes first, and `missed` in place of events that are no longer kept (seven days): list " +
          "anew then. Rights are looked up again all the while; the stream ends when they are gone.",
        querystring: EventsQuery,
        headers: EventsHeaders,
        response: {
          200: stream("The events.", "id: 42\nevent: setting.version_added\ndata: {}\n\n"),
          ...problems(422),
        },
      },
    },
    async (request, reply) => {
      const { owner_type, owner_id, path } = request.query;
      const given = request.headers["last-event-id"];
      // Whoever waits for the listener to read: one, and no longer than there is a stream.
      let goOn = (): void => undefined;
      const out = new Readable({ read: () => goOn() });
      let isOver = false;
      const write = (text: string): void => {
        if (isOver || out.destroyed) return;
        out.push(text);
        if (out.readableLength > BEHIND_BYTES_MAX) out.destroy();
      };
      const finish = (): void => {
        if (!isOver && !out.destroyed) out.push(null);
        isOver = true;
      };
      const { position, begin, stop } = await broker.feed.listen(callerOf(request), {
        owner: parseOwner(owner_type, owner_id),
        path: path ?? null,
        after: typeof given === "string" && given !== "" ? parsePosition(given) : null,
        tell: (event) => write(textOf(event)),
        room: async () => {
          if (out.destroyed || out.readableLength < out.readableHighWaterMark) return;
          await new Promise<void>((resolve) => (goOn = resolve));
        },
        missed: () => write("event: missed\ndata: {}\n\n"),
        end: finish,
      });
      write(`retry: ${RETRY_MS}\n`);
      write(messageOf(position(), "ready", {}));
      const beat = setInterval(() => write(`: still here\nid: ${position()}\n\n`), HEARTBEAT_MS).unref();
      streams.add(finish);
      out.once("close", () => {
        clearInterval(beat);
        streams.delete(finish);
        stop();
        goOn();
      });
      // The answer to a HEAD has no body, and no end to wait for.
      if (request.method === "HEAD") finish();
      else void begin();
      return reply.type("text/event-stream; charset=utf-8").header("x-accel-buffering", "no").send(out);
    },
  );
}
