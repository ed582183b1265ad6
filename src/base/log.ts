/** How important an event is, from least to most. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** What an event may carry. Never a text, a vector or a key. */
export type LogFields = Record<string, string | number | boolean | null | undefined>;

/** Writes one JSON line an event: `time`, `level`, `event`, then the fields. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/**
 * A log that drops events below `level` and hands each line, newline included, to `write`.
 *
 * @param options.always fields of every line.
 */
export function createLog(options: {
  level: LogLevel;
  write: (line: string) => void;
  always?: LogFields;
}): Log {
  const threshold = LEVELS.indexOf(options.level);
  const at =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}): void => {
      if (LEVELS.indexOf(level) < threshold) return;
      const line = { time: new Date().toISOString(), level, event, ...options.always, ...fields };
      options.write(`${JSON.stringify(line)}\n`);
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** An error and the causes beneath it in one line, for the log. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && parts.length < 5; ) {
    parts.push(at instanceof Error ? `${at.name}: ${at.message}` : String(at));
    at = at instanceof Error ? at.cause : undefined;
  }
  return parts.join(' <- ');
}
