import { get, type Route } from '../api.ts';

/**
 * What the page may do: load from this server and call it, and nothing else. Nothing is inline, so
 * that a text that found its way into the page could not run.
 */
const SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const SCRIPT = 'text/javascript; charset=utf-8';
const STYLE = 'text/css; charset=utf-8';

/** The page's files, by name. */
const FILES: Readonly<Record<string, string>> = {
  'icon.svg': 'image/svg+xml',
  'page.css': STYLE,
  'results.css': STYLE,
  'main.js': SCRIPT,
  'element.js': SCRIPT,
  'heat-map.js': SCRIPT,
  'search.js': SCRIPT,
  'server.js': SCRIPT,
  'snippets.js': SCRIPT,
  'tokens.js': SCRIPT,
  'i18n.js': SCRIPT,
};

const DOCUMENT = {
  summary: 'A page to try the model out',
  responses: {
    200: {
      description: 'The page.',
      content: { 'text/html': { schema: { type: 'string' } } },
    },
  },
} as const;

/** `GET /`, a page to try the model out, and its files below `/playground/`. */
export function playgroundRoutes(): readonly Route[] {
  const files = Object.entries(FILES).map(([name, type]) =>
    get(`/playground/${name}`, undefined, () => fileReply(name, type)),
  );
  return [get('/', DOCUMENT, () => fileReply('index.html', 'text/html; charset=utf-8')), ...files];
}

function fileReply(name: string, type: string): Response {
  return new Response(Bun.file(`${import.meta.dir}/${name}`), {
    headers: {
      'content-type': type,
      'content-security-policy': SECURITY_POLICY,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      // A server that was upgraded must not be talked to by the page of the one before.
      'cache-control': 'no-cache',
    },
  });
}
