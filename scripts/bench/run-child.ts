/**
 * Runs a script of a bench in a process of its own, which is sent a plan and tells what it found.
 *
 * @param options.script its path.
 * @param options.plan plain data; borrowed.
 * @param options.msMax past this it hangs.
 * @param options.onMessage may give the result, or fail.
 * @throws Error when the process fails or hangs; it is ended then.
 */
export async function runChild<Message, Result>(options: {
  name: string;
  script: string;
  plan: unknown;
  msMax: number;
  environment?: Readonly<Record<string, string>>;
  onMessage: (
    message: Message,
    end: { readonly resolve: (result: Result) => void; readonly reject: (error: Error) => void },
  ) => void;
}): Promise<Result> {
  const { name, script, plan, msMax, environment, onMessage } = options;
  const { promise, resolve, reject } = Promise.withResolvers<Result>();
  const child = Bun.spawn([process.execPath, script], {
    stdio: ['ignore', 'inherit', 'inherit'],
    serialization: 'advanced',
    env: { ...process.env, ...environment },
    ipc: (message: Message) => onMessage(message, { resolve, reject }),
    onExit: (_child, status) => reject(new Error(`${name} ended with ${status}.`)),
  });
  const deadline = setTimeout(
    () => reject(new Error(`${name} did not end within ${msMax} ms.`)),
    msMax,
  );
  try {
    child.send(plan);
    return await promise;
  } finally {
    clearTimeout(deadline);
    child.kill();
    await child.exited;
  }
}
