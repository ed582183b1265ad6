import type { ByteWriter } from '../reply/encode-reply.ts';
import { FLOAT32_JSON_BYTES_MAX } from '../reply/float32-json.ts';
import { JSON_BASE64_FORMAT, JSON_FORMAT, type ReplyFormat } from '../reply/reply-content.ts';
import { isQuantized, QUANTIZED, type Quantized, quantizeRow } from '../vectors/quantize.ts';
import type { Schema } from './document.ts';
import { type Field, invalidWord, oneOf, optional, someOf } from './fields.ts';

/** The forms in which JSON has a dense row, and the fields by which other APIs ask for one. */

/** What rows may come as. `float` and `base64` are float32; the others are in `quantize.ts`. */
export const ROW_FORMS = ['float', 'base64', ...QUANTIZED] as const;

/** One of them. */
export type RowForm = (typeof ROW_FORMS)[number];

/** Bytes of a quantized row as JSON has them, at most: `-128,`. */
const INTEGER_JSON_BYTES_MAX = 5;

/**
 * Writes one row, null where the text has none. The row is borrowed.
 *
 * @param isBase64 integers as base64 of their bytes.
 */
export function writeRow(
  writer: ByteWriter,
  row: Float32Array,
  { form, isBase64 = false }: { readonly form: RowForm; readonly isBase64?: boolean },
): void {
  if (form === 'float' && !isBase64) writer.row(row);
  else if (form === 'float' || form === 'base64') writer.row(row, 'base64');
  else if (row.length === 0) writer.row(row);
  else if (isBase64) {
    const { buffer, byteOffset, byteLength } = quantizeRow(row, form);
    writer.ascii(`"${Buffer.from(buffer, byteOffset, byteLength).toString('base64')}"`);
  } else writer.ascii(`[${quantizeRow(row, form).join()}]`);
}

/** Room for so many rows of any form. */
export function reserveRows(writer: ByteWriter, rows: readonly Float32Array[]): void {
  const bytesPerValue = Math.max(FLOAT32_JSON_BYTES_MAX, INTEGER_JSON_BYTES_MAX);
  writer.reserve(rows.length * ((rows[0]?.length ?? 0) * bytesPerValue + 64));
}

/**
 * The form's fields beside OpenAI's `encoding_format`: Voyage's `output_dtype`, and Jina's
 * `embedding_type`, with LlamaIndex's old name for it.
 */
export const FORM_FIELDS = {
  encoding_format: optional(oneOf(['float', 'base64'])),
  output_dtype: optional(
    oneOf(['float', ...QUANTIZED]),
    'Form of the rows; with encoding_format base64 they are base64 of its bytes.',
  ),
  embedding_type: optional(oneForm()),
  encoding_type: optional(oneForm()),
};

/** A form, or a list of one. Jina takes several in a list; a row has one form here. */
function oneForm(): Field<RowForm> {
  const one = oneOf(ROW_FORMS);
  const list = someOf(ROW_FORMS);
  const schema: Schema = { oneOf: [one.schema, { ...list.schema, maxItems: 1 }] };
  return {
    schema: { ...schema, description: 'Form of the rows, in the words of Jina.' },
    isRequired: true,
    read(value, at) {
      if (!Array.isArray(value)) return one.read(value, at);
      const [form] = list.read(value, at);
      if (value.length === 1) return form;
      throw invalidWord(at, 'one form; send a request for each', value.join(','));
    },
  };
}

/** What was asked for, in whichever words. */
export interface AskedForm {
  readonly encoding_format?: 'float' | 'base64' | undefined;
  readonly output_dtype?: 'float' | Quantized | undefined;
  readonly embedding_type?: RowForm | undefined;
  readonly encoding_type?: RowForm | undefined;
}

/** How rows are sent: `form` and `isBase64` are for JSON. */
export interface RowFormat {
  readonly format: ReplyFormat;
  readonly form: RowForm;
  readonly isBase64: boolean;
}

/**
 * `Accept` chooses a binary format; among the forms of JSON the fields do.
 *
 * @throws ServerError EMB_FIELD_INVALID for two fields that disagree.
 */
export function rowFormatOf(accepted: ReplyFormat, asked: AskedForm): RowFormat {
  const { encoding_format: encoding, output_dtype, embedding_type, encoding_type } = asked;
  let form: RowForm | undefined;
  for (const [at, word] of Object.entries({ output_dtype, embedding_type, encoding_type })) {
    if (word === undefined) continue;
    if (form !== undefined && form !== word)
      throw invalidWord(at, `"${form}", as asked before`, word);
    form = word;
  }
  if (accepted.kind !== 'json') {
    const format = isQuantized(form) ? { ...accepted, dtype: form } : accepted;
    return { format, form: 'float', isBase64: false };
  }
  // Jina's integers are numbers always: OpenAI's clients ask for base64 unseen, and would read
  // their bytes as float32. Voyage's client means the bytes.
  if (isQuantized(form) && output_dtype === undefined) {
    return { format: JSON_FORMAT, form, isBase64: false };
  }
  const isBase64 = encoding === undefined ? isBase64Told(form, accepted) : encoding === 'base64';
  const format = isBase64 ? JSON_BASE64_FORMAT : JSON_FORMAT;
  return { format, form: isQuantized(form) ? form : 'float', isBase64 };
}

function isBase64Told(form: RowForm | undefined, accepted: ReplyFormat): boolean {
  return form === 'base64' || (accepted.kind === 'json' && accepted.encoding === 'base64');
}
