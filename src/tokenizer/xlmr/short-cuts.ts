import type { CharacterLookup } from './character-lookup.ts';
import type { TokenizerTables } from './compiled-format.ts';
import { findPair } from './pair-table.ts';
import { ROUTE, SPECIAL } from './route.ts';

/** What most special characters come to, told without their clusters. */
export interface ShortCuts {
  /**
   * What the special character at `index` comes to when that is one code: the code; or `~code` when
   * it stands for the character and the one before it; or `NONE`, and it takes a closer look.
   */
  codeAt(text: string, index: number, start: number, end: number): number;
}

/** Out of reach of codes and their complements. */
export const NONE = 0x10000;

/** @param tables borrowed. */
export function createShortCuts(tables: TokenizerTables, lookup: CharacterLookup): ShortCuts {
  const { unitRoutes, specialFlags, specialCodes, specialSpans, replacements } = tables;

  /** The one code that a span of replacements is, or -1. */
  function onlyCode(span: number): number {
    const code = replacements[span >>> 8];
    return (span & 0xff) === 1 && code < ROUTE.special ? code : -1;
  }

  return {
    codeAt(text, index, start, end) {
      const unit = text.charCodeAt(index);
      const special = unitRoutes[unit] - ROUTE.special;
      const flags = specialFlags[special];
      if (flags === SPECIAL.second) {
        // What comes first in a pair has a plain route.
        const before = index === start ? 0 : text.charCodeAt(index - 1);
        const span = unitRoutes[before] >= ROUTE.special ? -1 : findPair(tables, before, unit);
        if (span === -1) return specialCodes[special];
        const code = onlyCode(span);
        return code !== -1 && lookup.isLonePair(text, index, start, end) ? ~code : NONE;
      }
      if (flags !== SPECIAL.mapped) return NONE;
      const code = onlyCode(specialSpans[special]);
      const isAlone = index + 1 === end || !lookup.attaches(text, index + 1);
      return code !== -1 && isAlone ? code : NONE;
    },
  };
}
