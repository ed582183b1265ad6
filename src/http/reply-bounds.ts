import type { ReplyFormat } from '../reply/reply-format.ts';

/** Float32 values that fit a reply of so many bytes in this format. */
export function valueCountMaxOf(replyBytesMax: number, format: ReplyFormat): number {
  return Math.floor(replyBytesMax / bytesPerValue(format));
}

/**
 * Bytes of one float32 in a reply. In JSON a unit vector's component takes 12 on average, its comma
 * included.
 */
function bytesPerValue(format: ReplyFormat): number {
  if (format.kind !== 'json') return format.dtype === 'float16' ? 2 : 4;
  return format.encoding === 'base64' ? 6 : 12;
}
