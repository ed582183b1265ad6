import { describe, expect, test } from 'bun:test';
import { commandsOf, isPrinted, printing } from './blocks.ts';

const block = (text: string) => ({ page: 'p', line: 1, language: 'sh', text });

describe('blocks of a page', () => {
  test('commands and what is printed under them', () => {
    expect(commandsOf(block('$ a \\\n  b\n{"x":1}\n$ c\n'))).toEqual([
      { command: 'a \\\n  b\n', printed: '{"x":1}\n' },
      { command: 'c\n', printed: '' },
    ]);
    expect(commandsOf(block('a\nb\n')).map(({ command }) => command)).toEqual(['a', 'b']);
  });

  test('an output is compared as it is printed, and … is anything', () => {
    expect(isPrinted('{"a":[0.05…],"b":1}\n', '{"a":[0.051,2],"b":1}')).toBe(true);
    expect(isPrinted('{"a":[0.05…],"b":1}', '{"a":[0.051,2],"b":2}')).toBe(false);
    expect(isPrinted('one\n…\n', 'one\ntwo\nthree\n')).toBe(true);
    expect(isPrinted('a.c', 'abc')).toBe(false);
  });

  test('comments after values are printed by the script', () => {
    const { script, printed } = printing(
      [
        'await a(); // 3',
        'const b = await c(); // 4',
        'console.log(d); // five',
        'e(); // words',
      ].join('\n'),
    );
    expect(printed).toEqual(['3', '4', 'five']);
    expect(script.split('\n')).toEqual([
      'console.log(await a());',
      'const b = await c(); // 4',
      'console.log(b);',
      'console.log(d); // five',
      'e(); // words',
    ]);
  });
});
