import { linesOf } from '../../corpus/sources/lines.ts';
import type { ClientCase } from './client-case.ts';

/**
 * A program in another language that drives clients: a line of JSON for each call, and a line for
 * each answer, in any order.
 */
export interface ClientProcess {
  /** What is told of a call that the server refuses. */
  complaint(client: string, url: string, texts: readonly string[]): Promise<string>;
  caseOf(name: string, isRetrying: boolean): ClientCase;
  close(): Promise<void>;
}

interface Answer {
  readonly id: number;
  readonly vectors?: readonly (readonly number[])[];
  readonly error?: string;
}

/**
 * Starts it.
 *
 * @param environment all that it sees of one.
 */
export function startClientProcess(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): ClientProcess {
  const child = Bun.spawn([...command], {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
    env: environment,
  });
  const waiting = new Map<number, (answer: Answer) => void>();
  let asked = 0;

  const reading = readAnswers(child.stdout, (answer) => {
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  }).finally(() => {
    for (const [id, resolve] of waiting) resolve({ id, error: `${command[0]} has ended` });
    waiting.clear();
  });

  function ask(client: string, url: string, texts: readonly string[]): Promise<Answer> {
    const id = asked++;
    return new Promise((resolve) => {
      waiting.set(id, resolve);
      child.stdin.write(`${JSON.stringify({ id, client, url, texts })}\n`);
      child.stdin.flush();
    });
  }

  async function complaint(client: string, url: string, texts: readonly string[]): Promise<string> {
    const { error } = await ask(client, url, texts);
    if (error === undefined) throw new Error('the call was answered, although it is wrong');
    return error;
  }

  return {
    complaint,
    caseOf: (name, isRetrying) => ({
      name,
      isRetrying,
      async vectors(url, texts) {
        const { vectors, error } = await ask(name, url, texts);
        if (vectors === undefined) throw new Error(error);
        return vectors;
      },
      complaint: (url, texts) => complaint(name, url, texts),
    }),
    async close() {
      child.stdin.end();
      await child.exited;
      await reading;
    },
  };
}

/** `node:readline` would also end a line at U+2028, which JSON may hold as it is. */
async function readAnswers(
  stdout: ReadableStream<Uint8Array>,
  onAnswer: (answer: Answer) => void,
): Promise<void> {
  for await (const lines of linesOf(stdout, { start: 0 })) {
    for (const { text = '' } of lines) onAnswer(JSON.parse(text));
  }
}
