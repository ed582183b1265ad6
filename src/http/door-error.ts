import type { ServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { errorReply, requestIdOf } from './error-reply.ts';
import { openaiErrorReply } from './openai/openai-error.ts';
import { pathOf } from './request-path.ts';
import { teiErrorReply } from './tei/tei-error.ts';

const OPENAI_PATH = /^\/(v1(\/.*)?|embeddings)$/;
const TEI_PATH = /^\/(embed|embed_all|embed_sparse|similarity|rerank|tokenize|decode)?$/;

/**
 * An error that no route has answered, in the shape of the front door that the path belongs to: a
 * client understands its own alone.
 */
export function doorErrorReply(error: ServerError, request: Request, log: Log): Response {
  const path = pathOf(request);
  const requestId = requestIdOf(request);
  if (OPENAI_PATH.test(path)) return openaiErrorReply(error, requestId, log);
  if (TEI_PATH.test(path)) return teiErrorReply(error, requestId, log);
  return errorReply(error, requestId, log);
}
