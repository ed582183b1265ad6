import type { Socket } from 'bun';
import type { PlannedRequest } from './load-plan.ts';

/** What came back for one request. */
export interface Reply {
  readonly request: PlannedRequest;
  readonly status: number;
  /** Status line and header fields. */
  readonly head: string;
  /**
   * The body, where it is another than expected; undefined where it is the expected one, byte for
   * byte.
   */
  readonly otherBody: Uint8Array | undefined;
}

/** What a connection tells its owner. */
export interface ConnectionOwner {
  onReply(connection: HttpConnection, reply: Reply): void;
  /** The connection is gone; `request` is the one that was under way, if any. */
  onBroken(connection: HttpConnection, why: string): void;
}

const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i;
/** Compared of each piece of a reply that is not compared whole. */
const BEGINNING_BYTES = 256;
const HEAD_END = '\r\n\r\n';

/**
 * One keep-alive HTTP/1.1 connection, one request at a time. It reads no more than it needs: a body
 * is compared with the expected one as its bytes come in, and is put together only when it differs.
 * So a reply costs the load process a few microseconds, and the server is what gets measured.
 */
export class HttpConnection {
  /** When the request under way was due, on the owner's clock in ms. */
  dueMs = 0;
  /** When it was written. */
  sentMs = 0;
  request: PlannedRequest | undefined;
  readonly #owner: ConnectionOwner;
  readonly #wholeEvery: number;
  #replyCount = 0;
  #socket: Socket<undefined> | undefined;
  #unsent: Uint8Array | undefined;
  #head = '';
  /** Bytes of the body so far; -1 while the head is incomplete. */
  #bodyAt = -1;
  #bodyLength = 0;
  #other: Uint8Array | undefined;

  private constructor(owner: ConnectionOwner, wholeEvery: number) {
    this.#owner = owner;
    this.#wholeEvery = wholeEvery;
  }

  /**
   * @param wholeEvery one of so many replies is compared whole; of the others the beginning of each
   * piece that comes. For replies of a megabyte, whose comparison costs as much as sending them.
   * @throws Error when nobody listens there.
   */
  static async open(
    address: { hostname: string; port: number },
    owner: ConnectionOwner,
    wholeEvery = 1,
  ): Promise<HttpConnection> {
    const connection = new HttpConnection(owner, wholeEvery);
    connection.#socket = await Bun.connect<undefined>({
      ...address,
      socket: {
        data: (_socket, chunk) => connection.#onData(chunk),
        drain: () => connection.#flush(),
        close: () => connection.#onEnd('the server closed the connection'),
        error: (_socket, error) => connection.#onEnd(error.message),
      },
    });
    connection.#socket.setNoDelay(true);
    return connection;
  }

  get isBusy(): boolean {
    return this.request !== undefined;
  }

  /** @param request borrowed until its reply. */
  send(request: PlannedRequest): void {
    this.request = request;
    this.#bodyAt = -1;
    this.#head = '';
    this.#other = undefined;
    this.#unsent = request.bytes;
    this.#flush();
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.end();
  }

  #flush(): void {
    if (this.#unsent === undefined || this.#socket === undefined) return;
    const written = this.#socket.write(this.#unsent);
    this.#unsent = written < this.#unsent.length ? this.#unsent.subarray(written) : undefined;
  }

  #onData(chunk: Buffer): void {
    if (this.request === undefined) {
      this.#onEnd('the server sent bytes that nobody asked for');
      return;
    }
    if (this.#bodyAt >= 0) {
      this.#takeBody(this.request, chunk);
      return;
    }
    const end = this.#head === '' ? chunk.indexOf(HEAD_END) : -1;
    if (end >= 0) {
      this.#startBody(this.request, chunk.toString('latin1', 0, end), chunk.subarray(end + 4));
      return;
    }
    // A head in pieces, which is rare: gathered as Latin-1, in which every byte is one character.
    this.#head += chunk.toString('latin1', 0, chunk.length);
    const split = this.#head.indexOf(HEAD_END);
    if (split < 0) return;
    const rest = Buffer.from(this.#head.slice(split + 4), 'latin1');
    this.#startBody(this.request, this.#head.slice(0, split), rest);
  }

  #startBody(request: PlannedRequest, head: string, rest: Buffer): void {
    const length = CONTENT_LENGTH.exec(head)?.[1];
    if (length === undefined) {
      this.#onEnd('a reply has no Content-Length');
      return;
    }
    this.#head = head;
    this.#bodyLength = Number(length);
    this.#bodyAt = 0;
    if (this.#bodyLength !== request.replyBody.length) this.#differ(request);
    this.#takeBody(request, rest);
  }

  #takeBody(request: PlannedRequest, chunk: Buffer): void {
    const from = this.#bodyAt;
    const to = from + chunk.length;
    if (to > this.#bodyLength) {
      this.#onEnd('a reply is longer than it says');
      return;
    }
    const isWhole = this.#replyCount % this.#wholeEvery === 0;
    const length = isWhole ? chunk.length : Math.min(chunk.length, BEGINNING_BYTES);
    if (this.#other === undefined) {
      const isSame = chunk.compare(request.replyBody, from, from + length, 0, length) === 0;
      if (!isSame) this.#differ(request);
    }
    this.#other?.set(chunk, from);
    this.#bodyAt = to;
    if (to < this.#bodyLength) return;
    const status = Number(this.#head.slice(9, 12));
    this.request = undefined;
    this.#replyCount++;
    this.#owner.onReply(this, { request, status, head: this.#head, otherBody: this.#other });
  }

  /** From here on the body is kept. What has come so far was as expected. */
  #differ(request: PlannedRequest): void {
    this.#other = new Uint8Array(this.#bodyLength);
    this.#other.set(request.replyBody.subarray(0, this.#bodyAt));
  }

  #onEnd(why: string): void {
    if (this.#socket === undefined) return;
    this.close();
    this.#owner.onBroken(this, why);
  }
}
