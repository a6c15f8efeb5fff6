// Sending spans to a collector: OTLP over HTTP, as JSON. In the background, in batches, bounded in memory: what cannot
// be sent is dropped and counted, never waited for. A collector that is away costs the broker nothing.
import type { TracingSettings } from "../config-tracing.ts";

export type Attributes = Readonly<Record<string, string | number>>;

export type EndedSpan = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | null;
  readonly name: string;
  readonly kind: "internal" | "server" | "client";
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Attributes;
  readonly failed: boolean;
};

const KINDS = { internal: 1, server: 2, client: 3 } as const;
const FAILED = 2;
const QUEUE_MAX = 4_096;
const BATCH_MAX = 512;
const PAUSE_MS = 5_000;
const REPORT_MS = 60_000;

export type Exporter = {
  add(span: EndedSpan): void;
  /** Sends what is left, once, and ends. */
  close(): Promise<void>;
};

/** @param onDropped told now and then how many spans have been dropped since, and why */
export function createExporter(
  { url, headers, timeoutMs, resource }: Omit<TracingSettings, "sampling">,
  version: string,
  onDropped: (spans: number, why: string) => void,
): Exporter {
  const queue: EndedSpan[] = [];
  let timer: NodeJS.Timeout | null = null;
  let sending: Promise<void> = Promise.resolve();
  let isSending = false;
  let dropped = 0;
  let reportedAt = Number.NEGATIVE_INFINITY;

  function drop(count: number, why: string): void {
    dropped += count;
    if (performance.now() - reportedAt < REPORT_MS) return;
    reportedAt = performance.now();
    onDropped(dropped, why);
    dropped = 0;
  }

  async function send(batch: readonly EndedSpan[]): Promise<void> {
    const scope = { name: "coffer", version };
    const body = {
      resourceSpans: [
        {
          resource: { attributes: attributesOf(resource) },
          scopeSpans: [{ scope, spans: batch.map(encode) }],
        },
      ],
    };
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { ...headers(), "content-type": "application/json" },
        body: JSON.stringify(body),
        redirect: "error",
        signal: AbortSignal.timeout(timeoutMs),
      });
      await response.body?.cancel();
      if (!response.ok) drop(batch.length, `status ${response.status}`);
    } catch {
      drop(batch.length, "the collector cannot be reached");
    }
  }

  function flush(): void {
    timer = null;
    if (isSending || queue.length === 0) return;
    isSending = true;
    sending = send(queue.splice(0, BATCH_MAX)).finally(() => {
      isSending = false;
      if (queue.length >= BATCH_MAX) flush();
      else if (queue.length > 0) soon();
    });
  }

  function soon(): void {
    timer ??= setTimeout(flush, PAUSE_MS).unref();
  }

  return {
    add(span) {
      if (queue.length >= QUEUE_MAX) return drop(1, "the queue is full");
      queue.push(span);
      if (queue.length >= BATCH_MAX) flush();
      else soon();
    },
    async close() {
      if (timer !== null) clearTimeout(timer);
      await sending;
      if (timer !== null) clearTimeout(timer);
      if (queue.length > 0) await send(queue.splice(0));
    },
  };
}

function encode(span: EndedSpan): object {
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    ...(span.parentSpanId === null ? {} : { parentSpanId: span.parentSpanId }),
    name: span.name,
    kind: KINDS[span.kind],
    startTimeUnixNano: nanoseconds(span.startMs),
    endTimeUnixNano: nanoseconds(span.endMs),
    attributes: attributesOf(span.attributes),
    status: span.failed ? { code: FAILED } : {},
  };
}

/** As text: a double does not hold so many digits. */
function nanoseconds(milliseconds: number): string {
  return String(BigInt(Math.round(milliseconds * 1_000)) * 1_000n);
}

function attributesOf(attributes: Attributes): object[] {
  return Object.entries(attributes).map(([key, value]) => ({
    key,
    value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value },
  }));
}
