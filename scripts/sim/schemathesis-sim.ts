/**
 * Lets schemathesis make up requests from the OpenAPI document and check every reply against it,
 * until there were `--cases` of them: on an open server, and on one that wants a key, takes token
 * ids and one model's name alone. Exits with 1 at a server error, an undocumented reply, a right
 * request that was refused or a wrong one that was not; the request is printed as a curl command.
 *
 * usage: bun scripts/sim/schemathesis-sim.ts [--cases 5000] [--seed 1] [--examples 100]
 *
 * `--examples` is how many requests are made up for each operation in one run, at most; more makes
 * it slower by more than it finds.
 */
import { parseArgs } from 'node:util';
import { startHeadsServer } from '../../src/testing/clients/heads-server.ts';
import { runSchemathesis } from '../../src/testing/clients/run-schemathesis.ts';

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

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '5000' },
    seed: { type: 'string', default: '1' },
    examples: { type: 'string', default: '100' },
  },
});

let caseCount = 0;
let seed = Number(values.seed);
while (caseCount < Number(values.cases)) {
  for (const { environment, settings } of SERVERS) {
    const server = await startHeadsServer(environment);
    const run = await runSchemathesis({
      url: server.url,
      seed,
      examplesMax: Number(values.examples),
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
