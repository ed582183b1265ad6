import { pack } from 'msgpackr';
import type { ReferenceIds } from '../../../src/testing/reference-ids.ts';
import type { PlannedRequest } from './load-plan.ts';
import { ACCEPT, faultOfRows, type ReplyKind, rowsOfReply } from './rows-of-reply.ts';

/** Some texts that travel in one request. */
export interface TextGroup {
  readonly kind: string;
  readonly texts: readonly string[];
}

/** How a right row is known. */
export interface ExpectedRows {
  /**
   * The right row of a text, computed apart from the server; or `server`: its own reply while
   * nothing else is asked of it, where nobody else can compute it.
   */
  readonly rowOf: ((tokenIds: readonly number[]) => Float32Array) | 'server';
  /** Largest difference of a component. */
  readonly tolerance: number;
}

/** Where requests go, and in which form. */
export interface RequestTarget {
  /** Without a slash at the end. */
  readonly url: string;
  readonly replyKind: ReplyKind;
  /** What the model wants in front of each text; counted as tokens. */
  readonly prefix: string;
  /** Sent beside what every request needs, as `name: value`. */
  readonly headers?: readonly string[];
  /** Unless told, JSON. */
  readonly bodyKind?: 'json' | 'msgpack';
  /** Of the body, beside what every request needs. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Texts are cut to so many tokens. */
  readonly tokenCountMax: number;
}

/**
 * Makes requests out of texts and asks the server for each of them once, one at a time. Each reply
 * is checked against rows that were computed apart from it; from then on its bytes are what every
 * later reply to the same request must have.
 *
 * @throws Error when a reply is wrong: nothing may be measured then.
 */
export async function planRequests(
  groups: readonly TextGroup[],
  target: RequestTarget,
  check: { idsOf: ReferenceIds; expected: ExpectedRows },
): Promise<readonly PlannedRequest[]> {
  const planned: PlannedRequest[] = [];
  for (const group of groups) {
    const whole = await Promise.all(group.texts.map((text) => check.idsOf(target.prefix + text)));
    const ids = whole.map((row) => cutToTokens(row, target.tokenCountMax));
    const body = bodyOf(group, target);
    const replyBody = await ask(body, target);
    const { rowOf, tolerance } = check.expected;
    const rows = rowsOfReply(replyBody, target.replyKind);
    const expected = rowOf === 'server' ? rows : ids.map(rowOf);
    const fault =
      rows.length === group.texts.length
        ? faultOfRows(rows, expected, tolerance)
        : `${rows.length} rows for ${group.texts.length} texts`;
    if (fault !== undefined) throw new Error(`The server is wrong, nothing is measured: ${fault}.`);
    planned.push({
      bytes: requestBytes(body, target),
      replyBody,
      kind: group.kind,
      textCount: group.texts.length,
      tokenCount: ids.reduce((sum, row) => sum + row.length, 0),
    });
  }
  return planned;
}

/** Cuts as the reference does: the first ids and the closing one. */
export function cutToTokens(ids: readonly number[], tokenCountMax: number): readonly number[] {
  if (ids.length <= tokenCountMax) return ids;
  return [...ids.slice(0, tokenCountMax - 1), ...ids.slice(-1)];
}

type Body = Uint8Array<ArrayBuffer>;

function bodyOf({ texts }: TextGroup, { replyKind, bodyKind, fields }: RequestTarget): Body {
  const query = texts.length === 1 ? texts[0] : texts;
  const body = replyKind === 'replaced' ? { query } : { query, truncate: true, ...fields };
  if (bodyKind === 'msgpack') return new Uint8Array(pack(body));
  return new TextEncoder().encode(JSON.stringify(body));
}

function contentType({ bodyKind = 'json' }: RequestTarget): string {
  return `application/${bodyKind}`;
}

async function ask(body: Body, target: RequestTarget): Promise<Uint8Array> {
  const { url, replyKind } = target;
  const reply = await fetch(`${url}/encode`, {
    method: 'POST',
    headers: { 'Content-Type': contentType(target), Accept: ACCEPT[replyKind] },
    body,
  });
  if (reply.status !== 200)
    throw new Error(`${url} answered ${reply.status}: ${await reply.text()}`);
  return await reply.bytes();
}

/** The whole request, as it goes to the socket. */
function requestBytes(body: Body, target: RequestTarget): Uint8Array {
  const { url, replyKind, headers = [] } = target;
  const head = [
    'POST /encode HTTP/1.1',
    `Host: ${new URL(url).host}`,
    `Content-Type: ${contentType(target)}`,
    `Accept: ${ACCEPT[replyKind]}`,
    `Content-Length: ${body.byteLength}`,
    ...headers,
  ];
  return Buffer.concat([new TextEncoder().encode(`${head.join('\r\n')}\r\n\r\n`), body]);
}
