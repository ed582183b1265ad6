/**
 * Lets schemathesis make up requests from the OpenAPI document and check every reply against it,
 * until there were `--cases` of them: on an open server, and on one that wants a key, takes token
 * ids and one model's name alone. Exits with 1 at a server error, an undocumented reply, a right
 * request that was refused or a wrong one that was not; the request is printed as a curl command.
 */
import { startHeadsServer } from '../../src/testing/clients/heads-server.ts';
import { runSchemathesis } from '../../src/testing/clients/run-schemathesis.ts';
import { count, readFlags, SEED } from '../flags.ts';

/** A run that takes longer has met a server that hangs. */
const RUN_MS_MAX = 1_800_000;

const KEY = 'key-of-the-simulation';

/**
 * Ids that stand for no character (`<mask>`, `▁`) are an empty text: wrong, but no schema says so.
 */
const STRICT_SETTINGS = `
[auth.openapi.bearer]
bearer = "${KEY}"

[[operations]]
include-path = ["/", "/embed", "/embed_all", "/embed_sparse", "/embeddings", "/v1/embeddings"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]
`;

const SERVERS = [
  { environment: {}, settings: '' },
  {
    environment: { API_KEYS: KEY, ALLOW_TOKEN_IDS: 'on', STRICT_MODEL: 'on' },
    settings: STRICT_SETTINGS,
  },
] as const;

const values = readFlags(import.meta.path, {
  cases: count(5000, [1, 100_000_000], 'requests in all, at least'),
  seed: SEED,
  examples: count(
    100,
    [1, 100_000],
    'requests for each operation in one run; more finds little more',
  ),
});

let caseCount = 0;
let seed = values.seed;
while (caseCount < values.cases) {
  for (const { environment, settings } of SERVERS) {
    const server = await startHeadsServer(environment);
    const run = await runSchemathesis({
      url: server.url,
      seed,
      examplesMax: values.examples,
      settings,
      msMax: RUN_MS_MAX,
    });
    const faults = server.logLines.filter((line) => line.includes('EMB_INTERNAL'));
    await server.close();
    caseCount += run.caseCount;
    console.log(
      `seed ${seed}: ${run.caseCount} requests, ${run.isClean ? 'all as documented' : 'FAILED'}`,
    );
    if (!run.isClean || faults.length > 0) {
      console.log(`${run.output}\n${faults.join('')}`);
      process.exit(1);
    }
  }
  seed++;
}
console.log(`${caseCount} requests: no server error, no undocumented reply`);
process.exit(0);
