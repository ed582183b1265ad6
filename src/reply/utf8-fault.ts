/**
 * The offset of the first byte that begins no character of UTF-8 (RFC 3629: shortest form, no
 * surrogates, at most U+10FFFF). For error messages; `TextDecoder` has already refused the bytes,
 * in its faster way.
 *
 * @param bytes borrowed.
 * @returns the length when all of it is UTF-8.
 */
export function findUtf8Fault(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const length = characterLengthAt(bytes, at);
    if (length === 0) return at;
    at += length;
  }
  return at;
}

/** Bytes of the character that begins here; zero when none does. */
function characterLengthAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  // The second byte's bounds keep out longer forms of short characters, surrogates, and what is
  // above U+10FFFF.
  const second = bytes[at + 1] ?? 0;
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (length === 0 || second < least || second > most) return 0;
  for (let index = 2; index < length; index++) {
    if (((bytes[at + index] ?? 0) & 0xc0) !== 0x80) return 0;
  }
  return length;
}
