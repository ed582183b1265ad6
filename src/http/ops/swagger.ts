import { swagger } from '@elysiajs/swagger';
import type { Elysia } from 'elysia';

/**
 * Draws the OpenAPI document with Swagger UI, from files of this server alone. Every address is
 * made of the page's own, so that it works below a path behind a proxy; calls go there as well.
 */
const SCRIPT = `
const page = location.origin + location.pathname.replace(/\\/+$/, '');
const style = document.createElement('link');
style.rel = 'stylesheet';
style.href = page + '/swagger-ui.css';
const root = document.createElement('div');
const bundle = document.createElement('script');
bundle.src = page + '/swagger-ui-bundle.js';
bundle.onload = async () => {
  const spec = await (await fetch(page + '/json')).json();
  spec.servers = [{ url: page.slice(0, page.lastIndexOf('/')) }];
  SwaggerUIBundle({ spec, domNode: root, validatorUrl: null });
};
document.head.append(style, bundle);
document.body.append(root);
`;

/** Where the page finds its script: relative to it, with a slash at its own end and without. */
const SCRIPT_PATHS = ['/swagger/page.js', '/swagger/swagger/page.js'] as const;

/** Either of the two ways to bring a key, where one is needed. */
const SECURITY = {
  components: {
    securitySchemes: {
      bearer: { type: 'http' as const, scheme: 'bearer' },
      header: { type: 'apiKey' as const, in: 'header', name: 'x-api-key' },
    },
  },
  security: [{ bearer: [] }, { header: [] }],
};

/** Files of Swagger UI, from the package that is installed beside the server. */
const ASSETS = [
  { name: 'swagger-ui.css', type: 'text/css; charset=utf-8' },
  { name: 'swagger-ui-bundle.js', type: 'text/javascript; charset=utf-8' },
] as const;

/**
 * Adds the OpenAPI document at `/swagger/json` and its page at `/swagger`. Left to itself the
 * plugin's page loads its script from an outside host; here that one script is ours, and nothing
 * else is loaded.
 */
export function addSwagger(
  app: Elysia,
  { version, isKeyNeeded }: { version: string; isKeyNeeded: boolean },
): void {
  const info = {
    title: 'BGE-M3 encoder',
    version,
    description: 'Embedding server: text in over HTTP, vectors out.',
  };
  app.use(
    swagger({
      path: '/swagger',
      specPath: '/swagger/json',
      exclude: /^\/swagger/,
      scalarCDN: 'swagger/page.js',
      scalarConfig: { customCss: '' },
      documentation: { info, ...(isKeyNeeded ? SECURITY : {}) },
    }),
  );
  const hidden = { detail: { hide: true } };
  const script = 'text/javascript; charset=utf-8';
  for (const path of SCRIPT_PATHS) app.get(path, () => fileReply(SCRIPT, script), hidden);
  for (const { name, type } of ASSETS) {
    const path = Bun.resolveSync(`swagger-ui-dist/${name}`, import.meta.dir);
    app.get(`/swagger/${name}`, () => fileReply(Bun.file(path), type), hidden);
  }
}

function fileReply(body: string | Blob, type: string): Response {
  return new Response(body, { headers: { 'content-type': type } });
}
