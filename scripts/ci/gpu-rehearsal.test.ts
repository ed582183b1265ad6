/**
 * The rehearsal where there is no GPU: its order and its report with fakes for every program, its
 * questions to a server with a real one.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deterministicEmbedding } from '../../src/testing/triton/deterministic-embedding.ts';
import { startTarget } from '../bench/target/bench-target.ts';
import { probeServer } from '../rehearsal/probe-server.ts';

setDefaultTimeout(120_000);

const root = mkdtempSync(join(tmpdir(), 'rehearsal-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A project folder whose programs note their calls; the one whose line has `fails` fails. */
async function rehearse(name: string, fails = '') {
  const folder = join(root, name);
  const programs = join(folder, 'programs');
  for (const path of ['scripts', 'models/bge_model/1', 'models/bge_model/configs', 'programs']) {
    mkdirSync(join(folder, path), { recursive: true });
  }
  cpSync('scripts/gpu-rehearsal.sh', join(folder, 'scripts/gpu-rehearsal.sh'));
  writeFileSync(
    join(folder, 'models/bge_model/1/model.plan.json'),
    '"gpu": "L4",\n"dense": "AAAA"\n',
  );
  writeFileSync(join(folder, 'models/bge_model/configs/engine.pbtxt'), 'max_batch_size: 64\n');
  const calls = join(folder, 'calls');
  const body = (program: string): string =>
    `#!/bin/sh\necho "${program} $*" >>"${calls}"\necho "output of ${program} $*"\n` +
    `case "${program} $*" in *"${fails || 'nothing fails'}"*) exit 7 ;; esac\n`;
  for (const program of ['nvidia-smi', 'docker', 'curl', 'bun', 'git']) {
    writeFileSync(join(programs, program), body(program), { mode: 0o755 });
  }
  writeFileSync(join(folder, 'run.sh'), body('run.sh'), { mode: 0o755 });
  const child = Bun.spawn(['bash', 'scripts/gpu-rehearsal.sh'], {
    cwd: folder,
    env: { PATH: `${programs}:${process.env.PATH}` },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const status = await child.exited;
  const [report = ''] = readdirSync(join(folder, 'reports')).filter((one) => one.endsWith('.txt'));
  return {
    status,
    report: readFileSync(join(folder, 'reports', report), 'utf8'),
    calls: readFileSync(calls, 'utf8').split('\n'),
  };
}

describe('the rehearsal', () => {
  test('plans, exports, serves, asks, measures, restarts and upgrades, into one report', async () => {
    const { status, report, calls } = await rehearse('well');
    expect(status).toBe(0);
    const ours = calls.filter((call) => /^(run\.sh|bun|docker compose)/.test(call));
    expect(ours.map((call) => call.replace(/ reports\/\S+/, ''))).toEqual([
      'run.sh export --plan',
      'run.sh export',
      'run.sh --backend triton',
      'bun scripts/rehearsal/probe-server.ts http://127.0.0.1:8080',
      'run.sh bench --url http://127.0.0.1:8080 --only url-short-json,url-middle,url-long,url-document,url-mixed',
      'docker compose restart triton',
      'bun scripts/rehearsal/probe-server.ts http://127.0.0.1:8080',
      'run.sh --backend triton',
      'bun scripts/rehearsal/probe-server.ts http://127.0.0.1:8080',
      'docker compose logs --tail 60 --no-color',
    ]);
    expect(report).toContain('output of run.sh export --plan');
    expect(report).toContain('"gpu": "L4"');
    expect(report).toContain('max_batch_size: 64');
    expect(report).not.toContain('AAAA');
    expect(report).toContain('0 parts failed');
  });

  test('goes on after a part that failed, names it and counts it', async () => {
    const { status, report, calls } = await rehearse('ill', 'run.sh bench');
    expect(status).toBe(1);
    expect(report).toContain('-- bench: exit status 7');
    expect(report).toContain('1 parts failed, bench');
    expect(calls).toContain('docker compose restart triton');
  });
});

test('its questions to a server find what is right, and what is another model', async () => {
  const target = await startTarget('trivial', { modelsDir: 'models' });
  try {
    const { table, faults, rows } = await probeServer(target.url);
    expect(faults).toEqual([]);
    expect(rows).toHaveLength(32);
    expect(table).toMatch(/document\s+7\d\d\d to 8\d\d\d\s+1024/);
    expect(table).toMatch(/"infer" is that in Triton: .*infer \d+\.\d %/);
    expect((await probeServer(target.url, rows)).faults).toEqual([]);
    const other = rows.with(3, [...deterministicEmbedding([0, 2], 1024)]);
    const [fault = ''] = (await probeServer(target.url, other)).faults;
    expect(fault).toMatch(/^text 3: cosine .* to the row of before$/);
  } finally {
    await target.stop();
  }
});
