import { functionLengths } from './function-lengths.ts';
import { codeOf, type SourceFile } from './source-tree.ts';

/**
 * One rule of the house: what is wrong with a file, each fault in a few words; empty when nothing
 * is.
 */
export interface Rule {
  readonly name: string;
  check(file: SourceFile): readonly string[];
  /** A file that breaks the rule: it shows that the rule can fail. */
  readonly planted: SourceFile;
}

const LINES_MAX = 400;
const COLUMNS_MAX = 100;
const FUNCTION_LINES_MAX = 60;

/** Written by a script, from data that is as long as it is. */
const GENERATED: ReadonlySet<string> = new Set(['src/tokenizer/compiler/grapheme-table.ts']);

/** Where time is made. The client has its own, since it imports nothing of the server. */
const CLOCKS: ReadonlySet<string> = new Set(['src/base/clock.ts', 'src/client/cancellation.ts']);

/**
 * Readers of the environment: settings, the process, and the runtime's own switches, which know no
 * other way.
 */
const ENVIRONMENT_READERS: ReadonlySet<string> = new Set([
  'src/config/read.ts',
  'src/main.ts',
  'src/backend/local/runtime-telemetry.ts',
  'src/provision/export.ts',
  'src/provision/setup/wheel-download.ts',
  'src/provision/export/engine/in-place.ts',
]);

const isTypeScript = ({ path }: SourceFile): boolean => path.endsWith('.ts');
const isTest = ({ path }: SourceFile): boolean => path.endsWith('.test.ts');
const isInSource = ({ path }: SourceFile): boolean => path.startsWith('src/');
const isForTests = (file: SourceFile): boolean =>
  isTest(file) || file.path.startsWith('src/testing/');

/** The lines of the code where a pattern is found, as `line 7: setTimeout(`. */
function found(text: string, pattern: RegExp): string[] {
  return text.split('\n').flatMap((line, index) => {
    const match = pattern.exec(line);
    return match === null ? [] : [`line ${index + 1}: ${match[0].trim()}`];
  });
}

function plant(path: string, text: string): SourceFile {
  return { path, text };
}

/**
 * Each rule of STYLE that can be read off one file. What Biome and tsc check already is not here.
 */
export const RULES: readonly Rule[] = [
  {
    name: `a file has at most ${LINES_MAX} lines`,
    check(file) {
      const lineCount = file.text.trimEnd().split('\n').length;
      const isFree = !isTypeScript(file) || GENERATED.has(file.path);
      return isFree || lineCount <= LINES_MAX ? [] : [`${lineCount} lines`];
    },
    planted: plant('src/a.ts', 'x;\n'.repeat(LINES_MAX + 1)),
  },
  {
    name: `a function has at most ${FUNCTION_LINES_MAX} lines`,
    check: (file) =>
      !isTypeScript(file) || isTest(file)
        ? []
        : functionLengths(file.text)
            .filter(({ ownLineCount }) => ownLineCount > FUNCTION_LINES_MAX)
            .map(({ line, ownLineCount }) => `line ${line}: ${ownLineCount} lines`),
    planted: plant('src/a.ts', `function long() {\n${'  x;\n'.repeat(FUNCTION_LINES_MAX)}}\n`),
  },
  {
    // Biome breaks code; what it leaves longer cannot be broken.
    name: `a comment has at most ${COLUMNS_MAX} columns`,
    check: (file) =>
      isTypeScript(file) ? found(file.text, COMMENT_OVER_COLUMNS).map(withoutWords) : [],
    planted: plant('src/a.ts', `// ${'word '.repeat(20)}`),
  },
  {
    name: 'a file is named in kebab-case, after what it holds',
    check({ path }) {
      const parts = path.split('/');
      const isVague = parts.some((part) => /^(?:utils?|helpers?|types|common)(?:\.|$)/.test(part));
      const isKebab = parts.every((part) => !/\.ts$/.test(part) || /^[a-z0-9.-]+$/.test(part));
      return path.startsWith('src/') && (isVague || !isKebab) ? [path] : [];
    },
    planted: plant('src/http/utils.ts', ''),
  },
  {
    name: 'only the clock makes time',
    check: (file) =>
      isInSource(file) && isTypeScript(file) && !isForTests(file) && !CLOCKS.has(file.path)
        ? found(codeOf(file.text), TIME)
        : [],
    planted: plant('src/a.ts', 'const now = performance.now();'),
  },
  {
    name: 'only the settings read the environment',
    check: (file) =>
      isInSource(file) && !isForTests(file) && !ENVIRONMENT_READERS.has(file.path)
        ? found(codeOf(file.text), /\b(?:process|Bun)\.env\b/)
        : [],
    planted: plant('src/http/a.ts', 'const key = process.env.KEY;'),
  },
  {
    name: 'no any, enum, default export or star export',
    check: (file) => (isTypeScript(file) ? found(codeOf(file.text), LOOSE) : []),
    planted: plant('src/a.ts', 'export default (x as any);'),
  },
  {
    name: 'a relative import names its file, ending included',
    check: (file) => (isTypeScript(file) && !isThisFile(file) ? found(file.text, BARE_IMPORT) : []),
    planted: plant('src/a.ts', "import { a } from './b';"),
  },
  {
    name: 'nothing is silenced without a reason',
    check: (file) => (isTypeScript(file) && !isThisFile(file) ? found(file.text, SILENCED) : []),
    planted: plant('src/a.ts', '// @ts-ignore\n'),
  },
  {
    name: 'a test waits for a condition, never for time',
    check: (file) => (isTest(file) ? found(codeOf(file.text), SLEEP) : []),
    planted: plant('src/a.test.ts', 'await Bun.sleep(100);'),
  },
  {
    name: 'a test has no fixed port',
    check: (file) => (isForTests(file) ? found(codeOf(file.text), FIXED_PORT) : []),
    planted: plant('src/a.test.ts', 'server.listen(8080);'),
  },
  {
    name: 'a test is run, or says in its name what it needs',
    check: (file) =>
      isTest(file) ? [...found(file.text, NOT_RUN), ...(SKIPPED_IF.exec(file.text) ?? [])] : [],
    planted: plant('src/a.test.ts', "test.skip('later', () => {});"),
  },
  {
    name: 'no path of one machine, no package registry',
    check: (file) => (isThisFile(file) ? [] : found(file.text, MACHINE)),
    planted: plant('README.md', `It lies in /${'home'}/me/code.`),
  },
  {
    name: 'an export says what it is',
    check: (file) =>
      isInSource(file) && isTypeScript(file) && !isForTests(file) ? undocumented(file.text) : [],
    planted: plant('src/a.ts', '/** Yes. */\nexport const a = 1;\nexport const b = 2;\n'),
  },
];

const COMMENT_OVER_COLUMNS = new RegExp(`^\\s*(?://|/?\\*).{${COLUMNS_MAX - 1},}$`);
const TIME =
  /\b(?:setTimeout|setInterval|setImmediate|queueMicrotask|performance\.now|process\.hrtime|Bun\.nanoseconds|Bun\.sleep\w*)\b/;
const LOOSE =
  /\bas any\b|[:<|]\s*any\b|^\s*(?:export )?(?:const )?enum \w|^export default\b|^export \*/;
const BARE_IMPORT = /(?:from|import\()\s*'\.[^']*(?<!\.(?:ts|json))'/;
const SILENCED = /@ts-(?:ignore|nocheck)|@ts-expect-error(?! \w)|biome-ignore(?! \w[\w/]*: \w)/;
// `while (!condition) await sleep(…)` waits for the condition; the limit of the test ends it.
const SLEEP = /^(?!.*\bwhile \().*\b(?:sleep(?:Sync)?|setTimeout|setInterval)\(/;
const FIXED_PORT = /\blisten\(\s*[1-9]\d*\b|\bport: [1-9]\d*\b/;
const NOT_RUN = /\.(?:only|skip|todo|todoIf|failing)\(/;
const SKIPPED_IF = /\.(?:skipIf|if)\((?![\s\S]{0,200}\bneeds )/;
const MACHINE = new RegExp(
  ['(?<![\\w.$}/])/(?:home|root|work)/\\w', 'https?://[\\w.-]*(?:registry|packages?)\\.'].join('|'),
);

/** This file names what it looks for. */
function isThisFile({ path }: SourceFile): boolean {
  return path === 'src/testing/tidy/rules.ts';
}

/** A fault that tells the line alone: the words of a long comment help nobody. */
function withoutWords(fault: string): string {
  return fault.slice(0, fault.indexOf(':'));
}

/**
 * Exports whose line before is not the end of a comment. Overloads and re-exports follow what is
 * documented.
 */
function undocumented(text: string): string[] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) => {
    const name = /^export (?:async |abstract )?(?:function|class|const|interface|type) (\w+)/.exec(
      line,
    );
    if (name === null) return [];
    const isTold = /(?:\*\/|biome-ignore .*)$/.test(lines[index - 1] ?? '');
    return isTold ? [] : [`line ${index + 1}: ${name[1]}`];
  });
}
