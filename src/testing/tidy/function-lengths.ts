/** A function, by its lines in a file that Biome has formatted. */
export interface FunctionLength {
  /** Counted from 1. */
  readonly line: number;
  /** Its lines, less those of functions inside it: a factory's inner functions count one by one. */
  readonly ownLineCount: number;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** Words that open a block and are no function. */
const KEYWORD = /^\s*(?:if|for|while|switch|else|try|catch|finally|do|return|throw|await|expect)\b/;
const OPENING =
  /^(\s*)(?:export )?(?:(?:async )?function\b|(?:(?:static|async|get|set) )*#?\w+(?:<[^(]*>)?\(|(?:const|let) \w+)/;

/**
 * Finds functions by indentation: one starts at a line that opens one and ends at the next line of
 * the same indentation that closes a brace for good. No parser, so it relies on the formatter, and
 * a call with a callback counts as the callback.
 */
export function functionLengths(text: string): readonly FunctionLength[] {
  const lines = text.split('\n');
  const spans = lines.flatMap((line, start) => spanFrom(lines, line, start) ?? []);
  return spans.map((span) => ({
    line: span.start + 1,
    ownLineCount: lengthOf(span) - innermost(span, spans).reduce((sum, s) => sum + lengthOf(s), 0),
  }));
}

function spanFrom(lines: readonly string[], line: string, start: number): Span | undefined {
  const indent = OPENING.exec(line)?.[1];
  if (indent === undefined || KEYWORD.test(line)) return undefined;
  let header = '';
  let isOpen = false;
  for (let end = start; end < lines.length; end++) {
    const isSameIndent =
      lines[end].startsWith(indent) && !/^\s/.test(lines[end].slice(indent.length));
    if (!isOpen) header += `${lines[end]}\n`;
    if (
      isOpen &&
      isSameIndent &&
      lines[end].startsWith(`${indent}}`) &&
      !lines[end].endsWith('{')
    ) {
      return { start, end };
    }
    if (isSameIndent && lines[end].endsWith('{')) isOpen = isFunctionHeader(header);
    if (!isOpen && end > start && isSameIndent && !/^\s*[})\]]/.test(lines[end])) return undefined;
    if (!isOpen && lines[end].endsWith(';') && isSameIndent) return undefined;
  }
  return undefined;
}

/** A constant or a call is a function only by its arrow. */
function isFunctionHeader(header: string): boolean {
  const isNamed = /^\s*(?:export )?(?:async )?function\b/.test(header);
  const isMethod =
    !/^\s*(?:export )?(?:const|let)\b/.test(header) && /\)(?:: [^=]*)? \{\n$/.test(header);
  return isNamed || isMethod || /=> \{\n$/.test(header);
}

/** The functions directly inside `outer`: those of no other function inside it. */
function innermost(outer: Span, spans: readonly Span[]): readonly Span[] {
  const inside = spans.filter((span) => span !== outer && contains(outer, span));
  return inside.filter((span) => !inside.some((other) => other !== span && contains(other, span)));
}

function contains(outer: Span, inner: Span): boolean {
  return outer.start <= inner.start && inner.end <= outer.end;
}

function lengthOf({ start, end }: Span): number {
  return end - start + 1;
}
