/**
 * What a rejected promise tells whoever prints its error: name, message and status.
 *
 * @throws Error when it was not rejected.
 */
export async function errorOf(promise: PromiseLike<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    const { name, message } = error as Error;
    return `${name}: ${message}`;
  }
  throw new Error('the call was answered, although it is wrong');
}
