/**
 * Prints what the tree is like for its reader: product files and their lengths, circles of imports,
 * and the files that one `POST /encode` over Triton passes through, measured. `bun
 * scripts/ci/house.ts [ROOT]`; another tree must have its dependencies and models.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { runCommand } from '../../src/provision/run-command.ts';
import {
  filesBelowFloor,
  importCycles,
  importsOfScripts,
  isProductive,
  lineCountOf,
} from '../../src/testing/tidy/import-rules.ts';
import { readSourceTree } from '../../src/testing/tidy/source-tree.ts';

/** Requests of the two runs. Lines that run once a request run more often in the second. */
const [FEW, MANY] = [40, 120];

/** A line is of each request when it ran so many more times; timers and probes stay below. */
const GROWTH_MIN = (MANY - FEW) / 2;

const root = resolve(process.argv[2] ?? join(import.meta.dir, '../..'));
const files = readSourceTree(root);
const product = files.filter(isProductive);
const lengths = product.map(lineCountOf).sort((a, b) => a - b);
const toScripts = importsOfScripts(files);
const cycles = importCycles(files);
const belowFloor = filesBelowFloor(files);
const passed = await filesOfARequest();

console.log(`product files in src                      ${product.length}`);
console.log(`median lines                              ${lengths[lengths.length >> 1]}`);
console.log(`files under 50 lines                      ${lengths.filter((n) => n < 50).length}`);
console.log(`of these with one importer and no reason  ${belowFloor.length}`);
console.log(`circles of imports, types counted         ${cycles.length}`);
for (const cycle of cycles) console.log(`  ${cycle}`);
console.log(`imports from src to scripts               ${toScripts.length}`);
for (const line of toScripts) console.log(`  ${line}`);
console.log(`files that one POST /encode over Triton passes through: ${passed.length}`);
for (const path of passed) console.log(`  ${path}`);

/** Files of which code runs once for each request, workers left out: coverage does not see them. */
async function filesOfARequest(): Promise<readonly string[]> {
  const few = await runRequests(FEW);
  const many = await runRequests(MANY);
  const grown = [...many].filter(([path, lines]) =>
    [...lines].some(([line, hits]) => hits - (few.get(path)?.get(line) ?? 0) >= GROWTH_MIN),
  );
  const known = new Set(product.map(({ path }) => path));
  return grown
    .map(([path]) => path)
    .filter((path) => known.has(path))
    .sort();
}

/** How often each line ran, by file. */
async function runRequests(count: number): Promise<Map<string, Map<number, number>>> {
  const folder = mkdtempSync(join(tmpdir(), 'house-'));
  try {
    const command = [
      ...[process.execPath, 'test', '--coverage', '--coverage-reporter=lcov'],
      ...[`--coverage-dir=${folder}`, '--timeout=60000'],
      join(import.meta.dir, 'house-requests.ts'),
    ];
    const env = { ...process.env, HOUSE_ROOT: root, HOUSE_REQUESTS: String(count) };
    const { exitCode, output } = await runCommand(command, { env, cwd: root });
    if (exitCode !== 0) throw new Error(`The requests failed.\n${output}`);
    return parseCoverage(readFileSync(join(folder, 'lcov.info'), 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function parseCoverage(text: string): Map<string, Map<number, number>> {
  const files = new Map<string, Map<number, number>>();
  let lines = new Map<number, number>();
  for (const line of text.split('\n')) {
    if (line.startsWith('SF:')) {
      lines = new Map();
      files.set(line.slice(3), lines);
    }
    const [, number, hits] = /^DA:(\d+),(\d+)/.exec(line) ?? [];
    if (number !== undefined) lines.set(Number(number), Number(hits));
  }
  return files;
}
