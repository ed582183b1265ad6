import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

/**
 * Sends one request byte for byte, and reads until the server closes: a client would put its own
 * Host there, and tidy the path.
 *
 * @param url of the server; `https:` trusts any certificate.
 * @param head the request line and headers; `Connection: close` is added.
 */
export function sendRaw(
  url: string,
  head: readonly string[],
  body = '',
): Promise<{ status: number; body: string }> {
  const { protocol, hostname, port } = new URL(url);
  const at = { host: hostname, port: Number(port) };
  const isTls = protocol === 'https:';
  const socket = isTls ? connectTls({ ...at, rejectUnauthorized: false }) : connect(at);
  const length = Buffer.byteLength(body);
  const lines = [...head, `Content-Length: ${length}`, 'Connection: close', '', body];
  socket.write(lines.join('\r\n'));
  let received = '';
  return new Promise((resolve, reject) => {
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      received += text;
    });
    socket.on('error', reject);
    socket.on('close', () => {
      const end = received.indexOf('\r\n\r\n');
      resolve({ status: Number(received.split(' ')[1]), body: received.slice(end + 4) });
    });
  });
}
