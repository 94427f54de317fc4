import { expect, test } from 'vitest';
import { sha256 } from '@fulmen/crypto';
import { nodeRuntime, silentLogger } from '@fulmen/service';
import { type CommitUnit, StoreError, UnrecoverableStoreError } from '@fulmen/store';
import { Committer } from './committer.ts';

const UNIT: CommitUnit = {
  kind: 'payment',
  commit: {
    fence: { shard: 0, epoch: 1n, replicaId: 'a' },
    paymentHash: sha256(new Uint8Array(1)),
    expectedVersion: 0n,
    state: new Uint8Array(0),
    row: {
      type: 'inbound',
      status: 'open',
      bolt11: '',
      description: '',
      amountMsat: 0n,
      receivedMsat: 0n,
      createdUnixMs: 0,
      expiresUnixMs: 0,
    },
    forwarding: {
      intents: [],
      intentClaims: [],
      resolutions: [],
      resolutionsTaken: [],
      preimages: [],
      outgoing: [],
      onionReplays: [],
      events: [],
    },
  },
};

/** What a submitted unit came to, and whether the process must stop. */
async function outcomeOf(
  commitSteps: () => Promise<never>,
): Promise<{ readonly error: unknown; readonly failed: Error | undefined }> {
  const store = { commitSteps } as unknown as ConstructorParameters<typeof Committer>[0];
  const signLane = { sign: () => Promise.resolve([]) } as unknown as ConstructorParameters<
    typeof Committer
  >[1];
  const committer = new Committer(store, signLane, nodeRuntime({ onFailure: () => undefined }), silentLogger);
  let failed: Error | undefined;
  void committer.failed.then((error) => (failed = error));
  const error: unknown = await committer.submit(UNIT).catch((thrown: unknown) => thrown);
  return { error, failed };
}

test('a damaged store ends the process; one that is away, or says nothing certain, does not', async () => {
  const damaged = new UnrecoverableStoreError('invalid page in block 7');
  expect(await outcomeOf(() => Promise.reject(damaged))).toEqual({ error: damaged, failed: damaged });
  const lost = new StoreError('unknown', 'the connection broke');
  expect(await outcomeOf(() => Promise.reject(lost))).toEqual({ error: lost, failed: undefined });
});
