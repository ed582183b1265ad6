/**
 * A word that somebody got wrong, as a message shows it: who wrote "FLOAT" must see it, and no
 * message grows with what came. Never for a text or a key.
 */
export function shortened(word: string, charactersMax = 32): string {
  if (word.length <= charactersMax) return word;
  return `${word.slice(0, charactersMax).toWellFormed()}…`;
}
