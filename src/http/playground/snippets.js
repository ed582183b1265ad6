/** The calls that the page has made, as a shell command. */
export function curlOf(origin, calls) {
  return calls
    .map(({ path, body }) => {
      const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
      return `curl ${origin}${path} -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
    })
    .join('\n\n');
}

/** The same in TypeScript: rows by our client, scores by fetch. */
export function typescriptOf(origin, calls) {
  return calls
    .map(({ path, body }) =>
      path === '/encode' ? encodeCall(origin, body) : fetchCall(origin + path, body),
    )
    .join('\n\n');
}

function encodeCall(origin, { query, outputs, input_type, truncate }) {
  const isDense = outputs.length === 1 && outputs[0] === 'dense';
  const options = { inputType: input_type, truncate, ...(isDense ? {} : { outputs }) };
  const method = isDense ? 'encode' : 'encodeHeads';
  return [
    "import { APIEncoder } from 'bge-m3-encoder/client';",
    '',
    `const encoder = new APIEncoder(${JSON.stringify(origin)});`,
    `const texts: string[] = ${JSON.stringify(query, null, 2)};`,
    `const rows = await encoder.${method}(texts, ${JSON.stringify(options)});`,
  ].join('\n');
}

function fetchCall(address, body) {
  return [
    `const reply = await fetch(${JSON.stringify(address)}, {`,
    "  method: 'POST',",
    "  headers: { 'Content-Type': 'application/json' },",
    `  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll('\n', '\n  ')}),`,
    '});',
    'const { scores } = await reply.json();',
  ].join('\n');
}
