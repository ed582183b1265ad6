/**
 * What a caller's own script would do, in a process of its own: so many requests at a time by
 * `fetch`, laid out once and sent again and again, each reply read into rows of float32. It reads
 * no corpus while it measures, and writes no file.
 *
 * Arguments: the server's address, a JSON Lines file whose first texts are sent, heads; then as
 * numbers texts of a request, requests at a time, ms of warm-up and of measuring. It writes a line
 * `begin` when it starts to count, and then what it counted as JSON.
 */
import { pack } from 'msgpackr';
import { portableClock } from '../../../src/client/cancellation.ts';
import { type Head, readEncodeReply } from '../../../src/client/read-encode-reply.ts';
import { linesOf } from '../../../src/corpus/sources/lines.ts';

/** What it found. */
export interface BareCount {
  readonly texts: number;
  readonly ms: number;
}

/** Requests that are laid out. */
const PLANNED_REQUESTS = 100;
const HEADERS = {
  'content-type': 'application/msgpack',
  accept: 'application/msgpack',
  'x-priority': 'background',
};

async function main(words: readonly string[]): Promise<void> {
  const [url = '', source = '', headNames = '', ...rest] = words;
  const [requestTexts = 0, connections = 0, warmUpMs = 0, measureMs = 0] = rest.map(Number);
  const heads = headNames.split(',') as Head[];
  const texts = await firstTexts(source, PLANNED_REQUESTS * requestTexts);
  const bodies: Uint8Array<ArrayBuffer>[] = [];
  for (let start = 0; start < texts.length; start += requestTexts) {
    const query = texts.slice(start, start + requestTexts);
    const fields = { query, truncate: true, input_type: 'passage', outputs: heads };
    bodies.push(new Uint8Array(pack(fields)));
  }
  const startMs = portableClock.now();
  let sent = 0;
  let counted = 0;
  let beginMs = 0;
  let rowsHeld = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      const index = sent++ % bodies.length;
      const body = bodies[index] as Uint8Array<ArrayBuffer>;
      const reply = await fetch(`${url}/encode`, { method: 'POST', headers: HEADERS, body });
      const bytes = new Uint8Array(await reply.arrayBuffer());
      if (!reply.ok) throw new Error(`${reply.status}: ${new TextDecoder().decode(bytes)}`);
      const textCount = Math.min(requestTexts, texts.length - index * requestTexts);
      const { dense, dimension } = readEncodeReply(bytes, { textCount, heads });
      // Rows that could be used: at their place in memory, one view each.
      const matrix = new Float32Array((dense as Uint8Array).slice().buffer);
      const rows = Array.from({ length: textCount }, (_, row) =>
        matrix.subarray(row * dimension, (row + 1) * dimension),
      );
      rowsHeld += rows.length;
      const nowMs = portableClock.now();
      if (beginMs === 0 && nowMs - startMs >= warmUpMs) {
        beginMs = nowMs;
        process.stdout.write('begin\n');
      } else if (beginMs > 0) counted += textCount;
      if (beginMs > 0 && nowMs - beginMs >= measureMs) {
        const found: BareCount = { texts: counted, ms: nowMs - beginMs };
        process.stdout.write(`${JSON.stringify(found)}\n`, () => process.exit(0));
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  throw new Error(`It ended by itself after ${rowsHeld} rows.`);
}

async function firstTexts(source: string, count: number): Promise<readonly string[]> {
  const texts: string[] = [];
  const bytes = Bun.file(source).stream() as unknown as AsyncIterable<Uint8Array>;
  for await (const lines of linesOf(bytes, { start: 0 })) {
    for (const { text } of lines) texts.push((JSON.parse(text ?? '') as { text: string }).text);
    if (texts.length >= count) break;
  }
  return texts.slice(0, count);
}

if (import.meta.main) await main(process.argv.slice(2));
