import { swagger } from '@elysiajs/swagger';
import type { Elysia } from 'elysia';

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>BGE-M3 encoder: API</title>
<link rel="stylesheet" href="/swagger/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/swagger/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({ url: '/swagger/json', dom_id: '#swagger-ui', validatorUrl: null });
</script>
</body>
</html>
`;

/** What the page needs, and what each is served as. */
const ASSETS = [
  { name: 'swagger-ui.css', type: 'text/css; charset=utf-8' },
  { name: 'swagger-ui-bundle.js', type: 'text/javascript; charset=utf-8' },
] as const;

/**
 * Adds the OpenAPI document at `/swagger/json` and its page at `/swagger`. The plugin's own page would load its script from
 * an outside host; ours comes from the package that is installed beside the server.
 */
export function addSwagger(app: Elysia, version: string): void {
  const info = {
    title: 'BGE-M3 encoder',
    version,
    description: 'Embedding server: text in over HTTP, vectors out.',
  };
  app.use(swagger({ path: '/swagger', specPath: '/swagger/json', documentation: { info } }));
  app.get('/swagger', () => pageReply(PAGE, 'text/html; charset=utf-8'), {
    detail: { hide: true },
  });
  for (const { name, type } of ASSETS) {
    const path = Bun.resolveSync(`swagger-ui-dist/${name}`, import.meta.dir);
    app.get(`/swagger/${name}`, () => pageReply(Bun.file(path), type), { detail: { hide: true } });
  }
}

function pageReply(body: string | Blob, type: string): Response {
  return new Response(body, { headers: { 'content-type': type } });
}
