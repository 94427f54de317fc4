/** Settlements in words, for the tests to compare. */
import { htlcKey } from '@fulmen/monitor';
import type { Settlement } from '../types.ts';

/** Outcomes by key, as words. */
export function outcomes({ htlcs }: Settlement): Record<string, string> {
  return Object.fromEntries(
    htlcs.map((outcome) => [
      htlcKey(outcome.htlc),
      outcome.type === 'failed' ? `failed ${outcome.reason}` : outcome.type,
    ]),
  );
}

/** Outputs as words: kind, HTLC, status. */
export function words({ outputs }: Settlement): string[] {
  return outputs.map(({ kind, htlc, status }) => {
    const what = htlc === undefined ? kind : `${kind} ${htlc.id}`;
    switch (status.type) {
      case 'maturing':
        return `${what}: at ${status.height}`;
      case 'claimable':
        return `${what}: ${status.claim.kind.type}`;
      case 'preimage_unknown':
        return `${what}: unknown until ${status.expiryHeight}`;
      case 'spent':
        return `${what}: ${status.how} by ${status.by}, ${status.finality}`;
    }
  });
}
