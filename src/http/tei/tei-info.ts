import type { Config } from '../../config/config.ts';
import type { Parts } from '../../encode/contract.ts';

/**
 * The fields by which clients of text-embeddings-inference read `GET /info`. They stand beside our
 * own; `version` is one for both.
 */
export function teiInfo({ manifest, backend }: Parts, config: Config) {
  const { source } = manifest;
  const limits = backend.capabilities();
  return {
    model_id: source.kind === 'hub' ? source.repository : manifest.id,
    model_sha: source.kind === 'hub' ? source.revision : null,
    // Of the rows that leave here, whatever the engine computes in.
    model_dtype: 'float32',
    served_model_name: manifest.id,
    model_type: { embedding: { pooling: manifest.pooling } },
    max_concurrent_requests: config.queueTextsMax,
    max_input_length: manifest.tokenCountMax,
    max_batch_tokens: limits.batchTokensMax,
    max_batch_requests: limits.batchTextsMax,
    max_client_batch_size: config.requestTextsMax,
    auto_truncate: config.truncate,
    tokenization_workers: config.tokenizerWorkers,
    sha: null,
    docker_label: null,
  };
}
