import { describe, expect, test } from 'bun:test';
import { createProgressBar, type Terminal } from './progress-bar.ts';

function recordingTerminal(isTTY: boolean, columns?: number): Terminal & { written: string[] } {
  const written: string[] = [];
  return { isTTY, columns, written, write: (text) => written.push(text) };
}

describe('createProgressBar', () => {
  test('draws over itself and ends its own line', () => {
    const terminal = recordingTerminal(true);
    const bar = createProgressBar({ label: 'law', terminal });
    bar.onProgress({ textCountDone: 50, textCount: 200, elapsedMs: 1000 });
    bar.onProgress({ textCountDone: 200, textCount: 200, elapsedMs: 125_000 });
    bar.end();
    expect(terminal.written).toEqual([
      '\rlaw █████░░░░░░░░░░░░░░░  25 %  50/200  50 texts/s  0:03 left\x1b[K',
      '\rlaw ████████████████████ 100 %  200/200  1.6 texts/s  2:05\x1b[K',
      '\n',
    ]);
  });

  test('leaves out what nobody could read, but not the end', () => {
    const terminal = recordingTerminal(true);
    const bar = createProgressBar({ terminal });
    for (let done = 1; done <= 1000; done++) {
      bar.onProgress({ textCountDone: done, textCount: 1000, elapsedMs: done });
    }
    const drawn = terminal.written.filter((text) => text.startsWith('\r'));
    expect(drawn.length).toBe(11);
    expect(drawn.at(-1)).toContain('1000/1000');
  });

  test('of a stream counts', () => {
    const terminal = recordingTerminal(true);
    const bar = createProgressBar({ terminal });
    bar.onProgress({ textCountDone: 64, textCount: undefined, elapsedMs: 3_725_000 });
    bar.end();
    expect(terminal.written.join('')).toBe('\rencode 64  0.0 texts/s  1:02:05\x1b[K\n');
  });

  /** Caught, planted: the end of a stream draws nothing. */
  test('ends with what came last, also of a stream', () => {
    const terminal = recordingTerminal(true);
    const bar = createProgressBar({ terminal });
    bar.onProgress({ textCountDone: 64, textCount: undefined, elapsedMs: 1000 });
    bar.onProgress({ textCountDone: 70, textCount: undefined, elapsedMs: 1001 });
    bar.end();
    bar.end();
    expect(terminal.written.map((text) => text.slice(0, 10))).toEqual([
      '\rencode 64',
      '\rencode 70',
      '\n',
    ]);
  });

  test('stays within the width', () => {
    const terminal = recordingTerminal(true, 20);
    const bar = createProgressBar({ terminal });
    bar.onProgress({ textCountDone: 5, textCount: 10, elapsedMs: 500 });
    expect(terminal.written).toEqual(['\rencode ██████████░░\x1b[K']);
  });

  test('draws nothing where nobody watches', () => {
    const terminal = recordingTerminal(false);
    const bar = createProgressBar({ terminal });
    bar.onProgress({ textCountDone: 10, textCount: 10, elapsedMs: 500 });
    bar.end();
    expect(terminal.written).toEqual([]);
  });
});
