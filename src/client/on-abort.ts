const actionsOf = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `action` once when the signal fires; at once when it has. The returned function takes that
 * back.
 *
 * However many wait for a signal, it has one listener of ours. A call waits for its signal once for
 * each request, and Node warns of a leak from the eleventh listener on.
 */
export function onAbort(signal: AbortSignal, action: () => void): () => void {
  if (signal.aborted) {
    action();
    return () => undefined;
  }
  const actions = actionsOf.get(signal) ?? listenTo(signal);
  // Two callers may share a function, and each may take back only its own.
  const own = (): void => action();
  actions.add(own);
  return () => {
    actions.delete(own);
  };
}

function listenTo(signal: AbortSignal): Set<() => void> {
  const actions = new Set<() => void>();
  const callAll = (): void => {
    for (const action of [...actions]) action();
    actions.clear();
  };
  signal.addEventListener('abort', callAll, { once: true });
  actionsOf.set(signal, actions);
  return actions;
}
