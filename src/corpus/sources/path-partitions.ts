import type { SourceInput } from './source.ts';

/** A value of a partition that has none. */
const NONE = '__HIVE_DEFAULT_PARTITION__';

/**
 * Fields that stand in a path and not in its file, `year=2024/part-0.parquet`: Spark, Hive and
 * DuckDB write tables so. Their values are words, since 01 and 1 may be two. What a record has
 * itself counts. Own file because it holds for every format.
 *
 * @param columns the fields that the job reads.
 * @returns the same input where the path has none of them.
 */
export function withPathPartitions(input: SourceInput, columns: readonly string[]): SourceInput {
  const folders = input.name.split('/').slice(0, -1);
  const fields: Record<string, string | null> = {};
  for (const folder of folders) {
    const [, name = '', value = ''] = /^([^=]+)=(.*)$/s.exec(folder) ?? [];
    if (columns.includes(plainOf(name))) {
      fields[plainOf(name)] = value === NONE ? null : plainOf(value);
    }
  }
  if (Object.keys(fields).length === 0) return input;
  return {
    ...input,
    async *read(from) {
      for await (const records of input.read(from)) {
        yield records.map((record) =>
          record.fields === undefined
            ? record
            : { ...record, fields: { ...fields, ...record.fields } },
        );
      }
    },
  };
}

/** Slashes and the like are written as %2F is. */
function plainOf(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
