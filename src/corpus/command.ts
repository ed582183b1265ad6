import { print } from '../base/print.ts';
import { CORPUS_EXIT, CorpusError } from './corpus-error.ts';
import { type CorpusContext, type CorpusOptions, corpusContext } from './corpus-options.ts';
import { type CorpusReport, embedCorpus } from './embed-corpus.ts';
import { type CommandLine, helpText, parseCommandLine } from './flags.ts';
import { durationOf } from './job/progress.ts';
import { planCorpus } from './plan-corpus.ts';
import {
  cancelJob,
  describeJobs,
  embedByQueue,
  type QueueFlags,
  retryJob,
  workOnQueue,
} from './queue/queued-corpus.ts';
import { shownAddress } from './stores/postgres.ts';

/**
 * The verb `embed`: reads its flags, runs the job and says how it ended.
 *
 * @param words the command line after the verb.
 * @returns the exit status.
 */
export async function runCorpusCommand(
  words: readonly string[],
  environment: CorpusContext['environment'],
): Promise<number> {
  const terminal = process.stderr;
  const say = (words: string): void => void terminal.write(`embed: ${words}\n`);
  const interrupt = new AbortController();
  const onSignal = (name: 'SIGINT' | 'SIGTERM') => (): void => {
    // Whoever asks twice does not want to wait.
    if (interrupt.signal.aborted) process.exit(statusOf(name));
    interrupt.abort(new Interrupted(name));
  };
  process.on('SIGINT', onSignal('SIGINT'));
  process.on('SIGTERM', onSignal('SIGTERM'));
  try {
    const line = parseCommandLine(words);
    if (line.action === 'help') {
      await print(helpText(), CORPUS_EXIT.sink);
      return CORPUS_EXIT.done;
    }
    const context = corpusContext(environment, interrupt.signal);
    if (line.action === 'plan') {
      await print(await planCorpus(line.options, { ...context, ...line }), CORPUS_EXIT.sink);
      return CORPUS_EXIT.done;
    }
    const keyed = await withKey(line);
    if (line.queue !== undefined && line.action !== 'embed') {
      return await runQueueAction({ ...line, queue: line.queue, options: keyed }, context);
    }
    const report = await (line.queue === undefined
      ? embedCorpus(keyed, context)
      : embedByQueue(keyed, context, line.queue));
    sayReport(report, line.options, say);
    return report.failed > 0 ? CORPUS_EXIT.textsFailed : CORPUS_EXIT.done;
  } catch (error) {
    if (error instanceof Interrupted) {
      say(`${error.signalName}: what is committed stays. To go on, run the same command again.`);
      return statusOf(error.signalName);
    }
    if (!(error instanceof CorpusError)) throw error;
    say(`${error.message} (${error.code})`);
    return error.exitStatus;
  }
}

async function runQueueAction(
  line: CommandLine & { readonly queue: QueueFlags },
  context: CorpusContext,
): Promise<number> {
  const { action, options, queue, jobId } = line;
  if (action === 'worker') {
    const jobs = await workOnQueue(options, context, queue);
    context.terminal.write(`embed: ${jobs} jobs are done, and none is left.\n`);
  } else if (action === 'status') {
    await print(await describeJobs(options, context, queue), CORPUS_EXIT.sink);
  } else if (action === 'retry') await retryJob(jobId, options, context, queue);
  else await cancelJob(jobId, options, context, queue);
  return CORPUS_EXIT.done;
}

class Interrupted extends Error {
  readonly signalName: 'SIGINT' | 'SIGTERM';

  constructor(signalName: 'SIGINT' | 'SIGTERM') {
    super(signalName);
    this.signalName = signalName;
  }
}

function statusOf(name: 'SIGINT' | 'SIGTERM'): number {
  return name === 'SIGINT' ? CORPUS_EXIT.interrupted : CORPUS_EXIT.terminated;
}

/** A key on the command line would stand in `ps` for all to see; so it comes in a file. */
async function withKey({ options, apiKeyFile }: CommandLine): Promise<CommandLine['options']> {
  if (apiKeyFile === undefined) return options;
  const [key = ''] = (
    await Bun.file(apiKeyFile)
      .text()
      .catch(() => '')
  ).split('\n');
  if (key.trim() !== '') return { ...options, apiKey: key.trim() };
  const message = `--api-key-file ${apiKeyFile} cannot be read, or its first line is empty.`;
  throw new CorpusError('CORPUS_FLAG_INVALID', message);
}

/** Arrow's issue 35692: its readers before 26 know no null among lists of one length. */
const NULLS_IN_PARQUET =
  'A failed row has no embedding (null): polars, DuckDB and pyarrow 26 read that, pandas over an ' +
  'older pyarrow does not.';

function sayReport(
  report: CorpusReport,
  { to, format }: Pick<CorpusOptions, 'to' | 'format'>,
  say: (words: string) => void,
): void {
  const { texts, chunks, textsNow, tokens, truncated, failed, elapsedMs, errors } = report;
  const seconds = elapsedMs / 1000;
  const rate = seconds > 0 ? Math.round(textsNow / seconds) : 0;
  const inChunks = chunks === undefined ? '' : ` in ${chunks} chunks`;
  say(
    `${texts} texts${inChunks} and ${tokens} tokens in ${shownAddress(to)}; ${textsNow} texts of them now, ` +
      `in ${durationOf(seconds)} (${rate} texts/s). ${truncated} were cut, ${failed} failed.`,
  );
  for (const { part, row, error } of errors) say(`part ${part}, row ${row}: ${error}`);
  if (failed > errors.length) say(`${failed - errors.length} more have their error in the output.`);
  if (failed > 0 && format === 'parquet' && !to.startsWith('postgres')) say(NULLS_IN_PARQUET);
}
