/** What operators see of the signer. */
import type { Metrics } from '@fulmen/service';

const LATENCY_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5];

export type SignerMetrics = ReturnType<typeof signerMetrics>;

export function signerMetrics(metrics: Metrics) {
  return {
    signSeconds: metrics.histogram(
      'signer_request_seconds',
      'Time from request to answer, by operation',
      LATENCY_BUCKETS,
      ['operation'],
    ),
    commitSeconds: metrics.histogram('signer_commit_seconds', 'Duration of group commits', LATENCY_BUCKETS),
    batchSize: metrics.histogram(
      'signer_turn_requests',
      'Requests that shared one turn of the lane',
      [1, 2, 4, 8, 16, 32, 64],
    ),
    refusals: metrics.counter('signer_refusals_total', 'Refusals by policy', ['policy']),
    signatures: metrics.counter('signer_signatures_total', 'Answers that carried a signature, by operation', [
      'operation',
    ]),
    unreconciled: metrics.gauge(
      'signer_unreconciled',
      '1 while the database is behind the marker beside the seed, or there is none: nothing is signed',
    ),
    generation: metrics.gauge('signer_generation', 'Commits of this database'),
  };
}
