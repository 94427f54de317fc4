/** A channel restored from a static backup, against a peer that lost nothing. */
import { secp256k1 } from '@fulmen/crypto/default';
import { applyUpdate, newMonitor } from '@fulmen/monitor';
import { expect, test } from 'vitest';
import { persistDelta } from '../persist/delta.ts';
import { restore } from '../persist/restore.ts';
import { signerWork } from '../signer-work.ts';
import { primaryFunding } from '../state.ts';
import { receive, take } from '../testing/expect.ts';
import { addCommand, Pair } from '../testing/pair.ts';
import { restoreStatically } from './restore-static.ts';

for (const format of ['anchors', 'static_remotekey'] as const) {
  test(`has the peer close it, and signs and broadcasts nothing itself: ${format}`, () => {
    const pair = new Pair(secp256k1, { format });
    for (let seed = 0; seed < 3; seed += 1) {
      pair.alice.must(addCommand(seed, 1_000_000n));
      pair.settle();
    }
    pair.disconnect();
    const lost = pair.bob.channel;
    const { fundingTxid, fundingOutputIndex, fundingValueSat } = primaryFunding(lost);
    const { state, effects } = restoreStatically({
      channelId: lost.channelId,
      parameters: lost.parameters,
      fundingTxid,
      fundingOutputIndex,
      fundingValueSat,
      shutdownScript: lost.shutdownScript,
      reason: 'restored from a static backup',
    });

    expect(effects.map(({ type }) => type)).toEqual(['watch_channel', 'monitor_update', 'watch_funding']);
    const [born, update, watch] = effects;
    if (
      born?.type !== 'watch_channel' ||
      update?.type !== 'monitor_update' ||
      watch?.type !== 'watch_funding'
    )
      throw new TypeError('other effects');
    expect(watch).toMatchObject({ fundingTxid, fundingOutputIndex, fundingValueSat });
    const applied = applyUpdate(newMonitor(born.parameters), {
      channelId: lost.channelId,
      updateId: update.updateId,
      steps: update.steps,
    });
    expect(applied.ok && applied.value.monitor.forceClose?.shouldBroadcast).toBe('passive');
    expect(applied.ok && applied.value.monitor.shutdownScript).toEqual(lost.shutdownScript);

    // Its rows read back, and nothing is owed to the signer.
    const delta = persistDelta(undefined, state);
    const rows = {
      hot: delta.hot,
      cold: delta.cold ?? new Uint8Array(0),
      htlcs: [],
      removals: [],
      secretBuckets: [],
      holderSignatures: delta.holderSignatures,
    };
    expect(restore(rows)).toEqual({ ok: true, value: state });
    expect(signerWork(state, { holderCommitmentNumber: -1n, counterpartyRevocations: 0n })).toEqual({
      ok: true,
      value: { counterpartyRevocations: [] },
    });

    pair.bob.state = state;
    pair.bob.persistedState = state;
    pair.bob.rows = rows;
    const before = pair.bob.effects.length;
    pair.connect();
    expect(pair.bob.outbox.map(({ type }) => type)).toEqual(['channel_reestablish', 'error']);
    expect(pair.bob.outbox[0]).toMatchObject({ nextCommitmentNumber: 0n, nextRevocationNumber: 0n });
    // Either of the two is enough.
    expect(receive(pair.alice, take(pair.bob, 'channel_reestablish'))).toMatchObject({
      code: 'reestablish_number',
      reaction: 'fail_channel',
    });
    expect(receive(pair.alice, take(pair.bob, 'error'))).toBeUndefined();
    expect(pair.alice.channel.phase.type).toBe('closing_force');
    pair.deliverAll();
    expect(pair.bob.channel.phase.type).toBe('passive');
    const since = pair.bob.effects.slice(before);
    expect(since.filter(({ type }) => type === 'force_close' || type === 'monitor_update')).toEqual([]);
    expect(since.every((effect) => effect.type !== 'send' || effect.message.kind !== 'revoke_and_ack')).toBe(
      true,
    );
  });
}
