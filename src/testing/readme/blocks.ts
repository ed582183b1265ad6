import { join } from 'node:path';

const ROOT = join(import.meta.dir, '../../..');

/** A fenced block of a page for users. */
export interface Block {
  /** The page, from the root. */
  readonly page: string;
  /** Line of its first line, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
}

/** Every fenced block of a page, in order. */
export async function readBlocks(page: string): Promise<readonly Block[]> {
  const text = await Bun.file(join(ROOT, page)).text();
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map((match) => ({
    page,
    line: text.slice(0, match.index).split('\n').length + 1,
    language: match[1],
    text: match[2],
  }));
}

/** A command of a shell block, and the output that the page prints under it. */
export interface Command {
  readonly command: string;
  /** Undefined where the page prints none. */
  readonly printed: string | undefined;
}

/**
 * The commands of a shell block. A command ends with a line that does not end in a backslash. Where
 * lines begin with `$ `, these are the commands, and what follows is their output. Otherwise every
 * line is of a command.
 */
export function commandsOf({ text }: Block): readonly Command[] {
  if (!/^\$ /m.test(text)) {
    const commands = text.trimEnd().split(/(?<!\\)\n/);
    return commands.map((command) => ({ command, printed: undefined }));
  }
  return text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [, command = '', printed = ''] = /^((?:[^\n]*\\\n)*[^\n]*\n)(.*)$/s.exec(part) ?? [];
      return { command, printed };
    });
}

/** Whether an output is what a page prints; `…` in the page stands for anything. */
export function isPrinted(printed: string, output: string): boolean {
  const parts = printed.trimEnd().split('…').map(RegExp.escape);
  return new RegExp(`^${parts.join('.*?')}$`, 's').test(output.trimEnd());
}

/**
 * A script that prints what its comments say that it does: `console.log(x); // 3` stays as it is,
 * and a number after another statement is that of its value.
 *
 * @returns the script and the lines that it must print.
 */
export function printing(script: string): { script: string; printed: readonly string[] } {
  const printed: string[] = [];
  const lines = script.split('\n').map((line) => {
    const told = /^\s*(.*console\.log\(.*\).*;) \/\/ (.+)$/.exec(line);
    if (told !== null) {
      printed.push(told[2]);
      return line;
    }
    const valued = /^(?:const (\w+) = )?(await .+); \/\/ (\d+)$/.exec(line);
    if (valued === null) return line;
    const [, name, value, number] = valued;
    printed.push(number);
    return name === undefined ? `console.log(${value});` : `${line}\nconsole.log(${name});`;
  });
  return { script: lines.join('\n'), printed };
}
