import { likelyName } from '../base/likely-name.ts';
import { shortened } from '../base/shortened.ts';
import { maskCredentials } from '../base/url-credentials.ts';
import { backendOf, type Environment, fitToMachine } from './fit.ts';
import { Problem, type Setting } from './setting-kinds.ts';
import { type Config, SETTINGS } from './settings.ts';

/** All problems of the settings at once, one a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads every setting from the environment. An empty variable counts as unset.
 *
 * @throws ConfigError that lists each variable that is wrong, with its bounds and its value.
 */
export function readConfig(environment: Environment): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries<Setting>(SETTINGS)) {
    const raw = environment[setting.environment];
    const value = raw === undefined || raw === '' ? setting.default : setting.parse(raw);
    if (value instanceof Problem) {
      const { message, word = raw ?? '' } = value;
      problems.push(`${setting.environment} ${message}, not ${shownValue(setting, word)}.`);
    }
    values[name] = value;
  }
  problems.push(...mistyped(environment));
  if (problems.length === 0) problems.push(...contradictions(values as Config, environment));
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return Object.freeze(fitToMachine(values as Config, environment));
}

/** The longest value that is shown whole. */
const SHOWN_CHARACTERS_MAX = 100;

/** What came, so that a typing error is seen: up to a bound, no credentials, and never a key. */
function shownValue({ isSecret }: Setting, value: string): string {
  if (isSecret) return 'what it is';
  return `"${shortened(maskCredentials(value), SHOWN_CHARACTERS_MAX)}"`;
}

/** Variables of `run.sh`, the export and Compose, and a word that many programs are set by. */
const KNOWN_BESIDE: readonly string[] = ['TRITON_IMAGE', 'TRITON_GPU', 'HF_ENDPOINT', 'MODE'];

/**
 * Variables that are no settings and look like one. A letter too few in API_KEYS would leave the
 * server open, and nobody would see it.
 */
function mistyped(environment: Environment): string[] {
  const settings = Object.values<Setting>(SETTINGS).map((setting) => setting.environment);
  const foreign = environment[SETTINGS.foreignVariables.environment]?.split(/[,\s]+/) ?? [];
  const known = new Set([...settings, ...KNOWN_BESIDE, ...foreign]);
  return Object.keys(environment).flatMap((name) => {
    const meant = known.has(name) || !environment[name] ? undefined : likelyName(name, settings);
    if (meant === undefined) return [];
    const way = `If it belongs to another program, set FOREIGN_VARIABLES=${name}.`;
    return [`${name} is no setting: is ${meant} meant? ${way}`];
  });
}

/** A header as OpenTelemetry writes it in a variable. */
const HEADER_PAIR = /^[\w!#$&'*+.^`|~-]+=(?:[^%]|%[\da-f]{2})+$/i;

/** Settings that are right alone and wrong together, or wrong as a whole. */
function contradictions(config: Config, environment: Environment): string[] {
  const problems: string[] = [];
  if (config.requestTextsMax > config.queueTextsMax) {
    problems.push(
      `REQUEST_TEXTS_MAX (${config.requestTextsMax}) must not exceed QUEUE_TEXTS_MAX ` +
        `(${config.queueTextsMax}): such a request could never be admitted.`,
    );
  }
  if (config.bodiesBytesMax !== 0 && config.bodyBytesMax > config.bodiesBytesMax) {
    problems.push(
      `BODY_BYTES_MAX (${config.bodyBytesMax}) must not exceed BODIES_BYTES_MAX ` +
        `(${config.bodiesBytesMax}): such a body could never be received.`,
    );
  }
  if (config.keepAliveMs !== 0 && config.keepAliveMs <= config.requestTimeoutMs) {
    problems.push(
      `KEEP_ALIVE_MS (${config.keepAliveMs}) must exceed REQUEST_TIMEOUT_MS ` +
        `(${config.requestTimeoutMs}): a connection is silent while its request is at work.`,
    );
  }
  if (config.otlpEndpoint !== '' && !/^https?:\/\/[^\s?#]+$/.test(config.otlpEndpoint)) {
    const shown = shownValue(SETTINGS.otlpEndpoint, config.otlpEndpoint);
    const wanted = 'http(s)://host:port of a collector';
    problems.push(`OTEL_EXPORTER_OTLP_ENDPOINT must be ${wanted}, not ${shown}.`);
  }
  if (!config.otlpHeaders.every((pair) => HEADER_PAIR.test(pair))) {
    problems.push('OTEL_EXPORTER_OTLP_HEADERS must be name=value, values percent-encoded.');
  }
  if ((config.tlsCert === '') !== (config.tlsKey === '')) {
    problems.push('TLS_CERT and TLS_KEY must be set together: one is of no use without the other.');
  }
  if (config.serverProcesses > 1) problems.push(...unshareable(config, environment));
  return problems;
}

/** What several processes cannot have in common, and none should have for itself. */
function unshareable(config: Config, environment: Environment): string[] {
  const told = `SERVER_PROCESSES (${config.serverProcesses}) above 1`;
  const problems: string[] = [];
  if (backendOf(config, environment) === 'embedded') {
    problems.push(
      `${told} needs BACKEND triton: embedded, each process would load the model for itself ` +
        'and compute on the same cores; EMBEDDED_SLOTS shares them out.',
    );
  } else if (config.fallback === 'embedded') {
    problems.push(
      `${told} needs FALLBACK none: each process would load the embedded model for itself.`,
    );
  }
  if (config.unixSocket !== '') {
    problems.push(`${told} needs HOST and PORT: a UNIX_SOCKET has one listener.`);
  }
  return problems;
}

/** The settings as `/info` shows them: of secrets, how many there are; of URLs, no credentials. */
export function shownConfig(config: Config): Readonly<Record<string, unknown>> {
  const shown: Record<string, unknown> = { ...config };
  for (const [name, setting] of Object.entries<Setting>(SETTINGS)) {
    const value = shown[name];
    if (setting.isSecret) shown[name] = `${(value as readonly string[]).length} hidden`;
    else if (typeof value === 'string') shown[name] = maskCredentials(value);
    else if (Array.isArray(value)) shown[name] = value.map(String).map(maskCredentials);
  }
  return shown;
}
