/**
 * Wait before what died is started again, times the deaths in a row: what cannot load must not
 * spin.
 */
const RESTART_DELAY_MS = 100;

/** @returns in ms; nothing after a first death. */
export function restartDelayMs(deathsInARow: number): number {
  return RESTART_DELAY_MS * Math.max(0, deathsInARow - 1);
}
