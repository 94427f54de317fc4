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

test('whoever submits a unit hears that the store is damaged, or says nothing certain', async () => {
  for (const error of [
    new UnrecoverableStoreError('invalid page in block 7'),
    new StoreError('unknown', 'broken'),
  ]) {
    const store = { commitSteps: () => Promise.reject(error) };
    const signLane = { sign: () => Promise.resolve([]) };
    const committer = new Committer(
      store as unknown as ConstructorParameters<typeof Committer>[0],
      signLane as unknown as ConstructorParameters<typeof Committer>[1],
      nodeRuntime({ onFailure: () => undefined }),
      silentLogger,
    );
    await expect(committer.submit(UNIT)).rejects.toBe(error);
  }
});
