import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { ClientClock } from '../../client/cancellation.ts';
import type { Terminal } from '../../client/progress-bar.ts';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { PartFacts } from '../sinks/sink.ts';
import type { RowCounts, ShardProgress } from './run-shards.ts';

/** What a watcher is told. */
export interface ProgressState {
  readonly state: 'running' | 'done' | 'stopped';
  readonly texts: number;
  readonly textsDone: number;
  /** Rows of them, where texts are cut into chunks. */
  readonly chunksDone: number | undefined;
  readonly partsDone: number;
  readonly parts: number;
  readonly tokensDone: number;
  readonly truncated: number;
  readonly failed: number;
  readonly textsPerSecond: number;
  readonly tokensPerSecond: number;
  /** Undefined while nobody can know. */
  readonly secondsLeft: number | undefined;
}

/** Between two draws of the bar, of the file, and of lines in a log, in ms. */
const REDRAW_MS = 100;
const FILE_MS = 1000;
const LINE_MS = 10_000;
const BAR_COLUMNS = 20;

/** Time over which the rate is smoothed, in ms. */
const RATE_MS = 30_000;

interface ProgressOptions {
  readonly clock: ClientClock;
  readonly terminal: Terminal;
  /** For a watcher. */
  readonly file: string | undefined;
  readonly texts: number;
  readonly parts: number;
  readonly isChunked: boolean;
}

/**
 * Shows how far a job is: a bar on a terminal, lines elsewhere, and a file for a watcher, as JSON
 * or (where its name ends in `.prom`) as Prometheus' text format for node_exporter to pick up.
 */
export class JobProgress implements ShardProgress {
  readonly #options: ProgressOptions;
  readonly #startMs: number;
  #counts = { texts: 0, chunks: 0, tokens: 0, truncated: 0, failed: 0 };
  #before = { texts: 0, tokens: 0 };
  #parts = 0;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #filedMs = Number.NEGATIVE_INFINITY;
  #rates: { ms: number; texts: number; tokens: number }[] = [];
  #isLineOpen = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#startMs = options.clock.now();
    this.#drawnMs = this.#startMs;
  }

  /** Counts what an earlier run has committed. */
  resume(facts: PartFacts): void {
    this.#before.texts += facts.texts;
    this.#before.tokens += facts.tokens;
    this.#add(facts);
    this.#parts++;
  }

  onRows(rows: Parameters<ShardProgress['onRows']>[0]): void {
    this.#add(rows);
    this.#show(false);
  }

  onCommit(): void {
    this.#parts++;
    this.#show(false);
  }

  /** A line among the others. */
  say(words: string): void {
    this.#endLine();
    this.#options.terminal.write(`embed: ${words}\n`);
  }

  /** The last state. */
  end(state: 'done' | 'stopped'): void {
    this.#show(true, state);
    this.#endLine();
  }

  /** What the counts are now. */
  state(state: ProgressState['state'] = 'running'): ProgressState {
    const { texts, parts, isChunked } = this.#options;
    const { textsPerSecond, tokensPerSecond } = this.#rate();
    const left = texts - this.#counts.texts;
    return {
      state,
      texts,
      textsDone: this.#counts.texts,
      chunksDone: isChunked ? this.#counts.chunks : undefined,
      partsDone: this.#parts,
      parts,
      tokensDone: this.#counts.tokens,
      truncated: this.#counts.truncated,
      failed: this.#counts.failed,
      textsPerSecond,
      tokensPerSecond,
      secondsLeft: textsPerSecond > 0 ? Math.round(left / textsPerSecond) : undefined,
    };
  }

  #add(rows: RowCounts): void {
    this.#counts.chunks += rows.chunks ?? 0;
    this.#counts.texts += rows.texts;
    this.#counts.tokens += rows.tokens;
    this.#counts.truncated += rows.truncated;
    this.#counts.failed += rows.failed;
  }

  /** Of the last half minute: a rate since the start would still tell of the slow first minute. */
  #rate(): { textsPerSecond: number; tokensPerSecond: number } {
    const nowMs = this.#options.clock.now();
    this.#rates.push({ ms: nowMs, texts: this.#counts.texts, tokens: this.#counts.tokens });
    while ((this.#rates[0]?.ms ?? nowMs) < nowMs - RATE_MS) this.#rates.shift();
    const first = this.#rates[0];
    const since = first === undefined ? 0 : nowMs - first.ms;
    // The first look has nothing before it.
    const base = since < 1000 ? { ms: this.#startMs, ...this.#before } : first;
    const seconds = (nowMs - (base?.ms ?? nowMs)) / 1000;
    if (seconds <= 0 || base === undefined) return { textsPerSecond: 0, tokensPerSecond: 0 };
    const per = (count: number): number => Math.round((count / seconds) * 10) / 10;
    return {
      textsPerSecond: per(this.#counts.texts - base.texts),
      tokensPerSecond: per(this.#counts.tokens - base.tokens),
    };
  }

  #show(isLast: boolean, as: ProgressState['state'] = 'running'): void {
    const { clock, terminal, file } = this.#options;
    const nowMs = clock.now();
    const isDue = nowMs - this.#drawnMs >= (terminal.isTTY === true ? REDRAW_MS : LINE_MS);
    const isFileDue = file !== undefined && (isLast || nowMs - this.#filedMs >= FILE_MS);
    if (!isLast && !isDue && !isFileDue) return;
    const state = this.state(as);
    if (isFileDue) {
      this.#filedMs = nowMs;
      writeProgressFile(file, state);
    }
    if (!isDue && !isLast) return;
    this.#drawnMs = nowMs;
    const words = formatProgress(state);
    if (terminal.isTTY === true) {
      terminal.write(`\r${words.slice(0, (terminal.columns || 80) - 1)}\x1b[K`);
      this.#isLineOpen = true;
    } else terminal.write(`embed: ${words}\n`);
  }

  #endLine(): void {
    if (this.#isLineOpen) this.#options.terminal.write('\n');
    this.#isLineOpen = false;
  }
}

function formatProgress(state: ProgressState): string {
  const { texts, textsDone, chunksDone, textsPerSecond, tokensPerSecond, secondsLeft } = state;
  const share = texts === 0 ? 1 : textsDone / texts;
  const filled = Math.floor(share * BAR_COLUMNS);
  const bar = '█'.repeat(filled) + '░'.repeat(BAR_COLUMNS - filled);
  const left = secondsLeft === undefined || share === 1 ? '' : `, ${durationOf(secondsLeft)} left`;
  const chunks = chunksDone === undefined ? '' : `${chunksDone} chunks, `;
  return (
    `${bar} ${Math.floor(share * 100)} %  ${textsDone}/${texts} texts, ${chunks}` +
    `${textsPerSecond.toFixed(0)} texts/s, ${tokensPerSecond.toFixed(0)} tokens/s${left}` +
    `, ${state.truncated} cut, ${state.failed} failed`
  );
}

/** As `2:05`, or `1:02:05` from an hour on. */
export function durationOf(seconds: number): string {
  const parts = [Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  const hours = Math.floor(seconds / 3600);
  if (hours > 0) parts.unshift(hours);
  return parts.map((part, index) => String(part).padStart(index === 0 ? 1 : 2, '0')).join(':');
}

/**
 * Looks whether the file for a watcher can be written.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID where it cannot be; later a job goes on without.
 */
export function checkProgressFile(file: string): void {
  try {
    const partial = `${file}.${process.pid}.partial`;
    writeFileSync(partial, '');
    rmSync(partial);
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) throw new Error('it is a folder');
  } catch (error) {
    const message = `--progress-file ${file} cannot be written: ${wordsOf(error)}.`;
    throw new CorpusError('CORPUS_FLAG_INVALID', message, error);
  }
}

function writeProgressFile(file: string, state: ProgressState): void {
  const partial = `${file}.${process.pid}.partial`;
  const text = file.endsWith('.prom') ? prometheusOf(state) : `${JSON.stringify(state)}\n`;
  try {
    writeFileSync(partial, text);
    renameSync(partial, file);
  } catch {
    // Whoever watches sees that it is old; the job is worth more than the view of it.
  }
}

function prometheusOf(state: ProgressState): string {
  const lines = Object.entries(state).flatMap(([name, value]) => {
    if (typeof value !== 'number') return [];
    const metric = `embed_${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    return [`# TYPE ${metric} gauge`, `${metric} ${value}`];
  });
  return `${lines.join('\n')}\nembed_running ${state.state === 'running' ? 1 : 0}\n`;
}
