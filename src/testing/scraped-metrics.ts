/** One scrape, by sample: `name{label="value"}` and its number. */
export type Scrape = ReadonlyMap<string, number>;

/**
 * Reads the text format of Prometheus as far as these tests need it, and throws on a line that is
 * none of it.
 */
export function parseScrape(text: string): Scrape {
  const samples = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# HELP ') || line.startsWith('# TYPE ')) continue;
    const match = /^([a-z_][a-z_0-9]*(?:\{[^}]*\})?) (\S+)$/.exec(line);
    if (match === null) throw new Error(`no sample: ${line}`);
    const [, key = '', value = ''] = match;
    if (samples.has(key)) throw new Error(`twice: ${key}`);
    samples.set(key, value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value));
  }
  return samples;
}

/** Scrapes a running server. */
export async function scrape(url: string): Promise<Scrape> {
  const reply = await fetch(`${url}/metrics`);
  return parseScrape(await reply.text());
}
