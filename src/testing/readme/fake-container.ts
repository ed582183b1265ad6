/**
 * A fake `docker` where there is none. It knows `build` and `run` with their options as Docker's
 * command-line reference has them, and no other. What an image has is read off the last stage of
 * its Dockerfile. Its command then runs on this machine, with the image's environment alone, on the
 * published port. The process is named in `FAKE_STATE`, so that a test can stop it.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const STATE = process.env.FAKE_STATE ?? '';

/** Options and whether a value follows. Source: `docker build` and `docker run`, version 28. */
const OPTIONS = {
  build: {
    ...{ '-t': true, '--tag': true, '-f': true, '--file': true, '--build-arg': true },
    ...{ '--pull': false, '--no-cache': false },
  },
  run: {
    ...{ '-p': true, '--publish': true, '-e': true, '--env': true, '-v': true, '--volume': true },
    ...{ '--env-file': true, '--name': true, '--gpus': true, '--user': true },
    ...{ '--rm': false, '-d': false, '--detach': false, '--init': false, '--read-only': false },
  },
} as const satisfies Record<string, Record<string, boolean>>;

interface Image {
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly port: string;
  readonly command: readonly string[];
}

function refuse(words: string): never {
  process.stderr.write(`fake docker: ${words}\n`);
  process.exit(125);
}

/** Takes the options before the first word that is none. */
function parse(verb: keyof typeof OPTIONS, line: readonly string[]) {
  const known: Readonly<Record<string, boolean>> = OPTIONS[verb];
  const options: [name: string, value: string][] = [];
  let at = 0;
  for (; line[at]?.startsWith('-'); at++) {
    const name = line[at];
    const hasValue = known[name];
    if (hasValue === undefined) refuse(`${verb} has no option ${name}`);
    options.push([name, hasValue ? (line[++at] ?? refuse(`no value after ${name}`)) : '']);
  }
  const valuesOf = (...names: string[]): string[] =>
    options.filter(([name]) => names.includes(name)).map(([, value]) => value);
  return { valuesOf, words: line.slice(at) };
}

const imageFile = (name: string): string => join(STATE, `image-${name}.json`);

function build(line: readonly string[]): void {
  const { valuesOf, words } = parse('build', line);
  const [name] = valuesOf('-t', '--tag');
  if (words.length !== 1 || name === undefined) refuse('build wants a tag and one folder');
  const folder = resolve(words[0]);
  const file = join(folder, 'Dockerfile');
  if (!existsSync(file)) refuse(`failed to read dockerfile: open ${file}`);
  const lines = readFileSync(file, 'utf8').split('\n');
  const last = lines.slice(lines.findLastIndex((one) => one.startsWith('FROM ')));
  const told = (word: string): string[] =>
    last.filter((one) => one.startsWith(`${word} `)).map((one) => one.slice(word.length + 1));
  const environment = told('ENV').flatMap((one) => one.split(' ').map((part) => part.split('=')));
  const image: Image = {
    folder,
    environment: Object.fromEntries(environment),
    port: told('EXPOSE')[0] ?? '',
    command: JSON.parse(told('CMD')[0] ?? '[]'),
  };
  writeFileSync(imageFile(name), JSON.stringify(image));
}

async function run(line: readonly string[]): Promise<void> {
  const { valuesOf, words } = parse('run', line);
  const [name = '', ...command] = words;
  if (!existsSync(imageFile(name))) refuse(`Unable to find image '${name}' locally`);
  const image: Image = JSON.parse(readFileSync(imageFile(name), 'utf8'));
  const [from, to] = valuesOf('-p', '--publish')[0]?.split(':') ?? [];
  const isOpen = to === image.port && to === image.environment.PORT;
  if (from === undefined || !isOpen) refuse(`nothing listens on port ${to} of the image`);
  const given = valuesOf('-e', '--env').map(
    (one) => /^(\w+)=(.*)$/.exec(one)?.slice(1) ?? refuse(one),
  );
  const child = Bun.spawn(command.length > 0 ? command : [...image.command], {
    cwd: image.folder,
    env: {
      PATH: process.env.PATH ?? '',
      ...image.environment,
      ...Object.fromEntries(given),
      PORT: from,
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  writeFileSync(join(STATE, 'process'), String(child.pid));
  process.exit(await child.exited);
}

const [verb, ...line] = process.argv.slice(2);
if (verb === 'build') build(line);
else if (verb === 'run') await run(line);
else refuse(`does not know ${verb}`);
