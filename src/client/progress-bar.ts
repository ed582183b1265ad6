import type { EncodeProgress } from './client-options.ts';

/** Where the bar is drawn; `process.stderr` is one. */
export interface Terminal {
  readonly isTTY?: boolean | undefined;
  /** Width in characters. */
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

/** A progress bar for a terminal, in one line that is drawn over itself. */
export interface ProgressBar {
  /** To be given to `encode` or `encodeStream` as it is. */
  readonly onProgress: (progress: EncodeProgress) => void;
  /**
   * Draws what came last and ends the line, so that what is printed next does not stand behind it. A
   * finished bar has ended itself.
   */
  end(): void;
}

/**
 * A redraw less than this after the last one is left out, in ms: nobody reads faster, and a
 * terminal is slow.
 */
const REDRAW_MS = 100;

/** Width of a terminal that does not tell its own, in characters. */
const COLUMNS_DEFAULT = 80;

/** Width of the bar itself, in characters: steps of 5 %. */
const BAR_COLUMNS = 20;

/**
 * Makes a progress bar: share, count, speed and the time that is left. Where nobody watches (a
 * pipe, a file, a browser) it draws nothing.
 *
 * @param options.label stands in front.
 * @param options.terminal default: the process's standard error, so that a piped output stays
 * clean.
 */
export function createProgressBar(
  options: { label?: string; terminal?: Terminal | undefined } = {},
): ProgressBar {
  const terminal = options.terminal ?? standardError();
  const label = options.label ?? 'encode';
  let drawnMs = Number.NEGATIVE_INFINITY;
  let isLineOpen = false;
  /** What came last and was not drawn. */
  let pending: EncodeProgress | undefined;

  const draw = (progress: EncodeProgress): void => {
    drawnMs = progress.elapsedMs;
    pending = undefined;
    const columns = (terminal?.columns || COLUMNS_DEFAULT) - 1;
    // Back to the start of the line; what is left of a longer one is erased.
    terminal?.write(`\r${formatProgress(label, progress).slice(0, columns)}\x1b[K`);
    isLineOpen = true;
  };
  const end = (): void => {
    if (pending !== undefined) draw(pending);
    if (isLineOpen) terminal?.write('\n');
    isLineOpen = false;
  };
  const onProgress = (progress: EncodeProgress): void => {
    if (terminal?.isTTY !== true) return;
    const isDone = progress.textCountDone === progress.textCount;
    if (isDone || progress.elapsedMs - drawnMs >= REDRAW_MS) draw(progress);
    else pending = progress;
    if (isDone) end();
  };
  return { onProgress, end };
}

function formatProgress(label: string, progress: EncodeProgress): string {
  const { textCountDone, textCount, elapsedMs } = progress;
  const perSecond = elapsedMs > 0 ? (textCountDone / elapsedMs) * 1000 : 0;
  const speed = `${perSecond.toFixed(perSecond < 10 ? 1 : 0)} texts/s`;
  if (textCount === undefined) {
    return `${label} ${textCountDone}  ${speed}  ${formatDuration(elapsedMs)}`;
  }
  const share = textCountDone / textCount;
  const filled = Math.floor(share * BAR_COLUMNS);
  const bar = '█'.repeat(filled) + '░'.repeat(BAR_COLUMNS - filled);
  const percent = String(Math.floor(share * 100)).padStart(3);
  const leftMs = (elapsedMs / textCountDone) * (textCount - textCountDone);
  const time = share < 1 ? `${formatDuration(leftMs)} left` : formatDuration(elapsedMs);
  return `${label} ${bar} ${percent} %  ${textCountDone}/${textCount}  ${speed}  ${time}`;
}

/** As `2:05`, or `1:02:05` from an hour on. */
function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60];
  const hours = Math.floor(seconds / 3600);
  if (hours > 0) parts.unshift(hours);
  return parts.map((part, index) => String(part).padStart(index === 0 ? 1 : 2, '0')).join(':');
}

/** Named through the global object: a browser has none, and the file shall load there too. */
function standardError(): Terminal | undefined {
  return (globalThis as { process?: { stderr?: Terminal } }).process?.stderr;
}
