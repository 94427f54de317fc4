/** Breaches of channels whose archives are stored in chunks: each is punished with what covers it, and nothing else is read. */
import { toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { encodeMonitor } from '@fulmen/monitor';
import { settle } from '@fulmen/settlement';
import { longChannel } from '@fulmen/settlement/testing/scale';
import { expect, test } from 'vitest';
import { Settling } from '../testing/settling.ts';

const long = longChannel(1_200);
const { channelId } = long.monitor.parameters;
const KEY = toHex(channelId);

function breachOf(number: bigint) {
  const facts = long.closedBy('revoked', 100, number);
  const [close] = facts.confirmed;
  if (close === undefined) throw new TypeError('no breach');
  return { tx: close.tx, outputs: settle({ secp }, long.monitor, facts).outputs };
}

/** What the settlement of the channel knows of its outputs. */
function outputsOf({ settler }: Settling) {
  return settler.closing.get(KEY)?.settlement.outputs.map(({ kind, status }) => [kind, status.type]);
}

test.each([1n, 255n, 256n, 601n, 1_023n, 1_024n, 1_199n])('state %i is punished', async (number) => {
  const settling = await Settling.start(99);
  await settling.watch(long.monitor);
  const { tx, outputs } = breachOf(number);
  await settling.mine([tx]);
  expect(settling.state.settlement.settlements.get(KEY)?.closeType).toBe('revoked');
  expect(outputsOf(settling)).toEqual(outputs.map(({ kind, status }) => [kind, status.type]));
  expect(outputsOf(settling)?.filter(([, status]) => status === 'claimable').length).toBeGreaterThan(1);
  // Its memory is gone, and it is computed anew.
  const next = await settling.restart();
  await next.mine();
  expect(outputsOf(next)).toEqual(outputsOf(settling));
});

test('it reads the chunks of the one commitment, once', async () => {
  const settling = await Settling.start(99);
  await settling.watch(long.monitor);
  const { store } = settling.writer;
  const read: (readonly bigint[])[] = [];
  const monitorChunks = store.monitorChunks.bind(store);
  store.monitorChunks = (id, numbers) => {
    read.push(numbers);
    return monitorChunks(id, numbers);
  };
  await settling.mine([breachOf(601n).tx]);
  await settling.mine();
  await settling.mine();
  expect(read).toEqual([[601n]]);
  // The log moved the monitor: what was at hand was another state's.
  await settling.update({ ...long.monitor, updateId: long.monitor.updateId + 1n });
  await settling.mine();
  expect(read).toEqual([[601n], [601n]]);
  expect(settling.state.settlement.settlements.get(KEY)?.closeType).toBe('revoked');
});

test('a monitor that a release before stored whole is punished from, too', async () => {
  const settling = await Settling.start(99);
  await settling.watch(long.monitor);
  const row = settling.state.monitors.get(KEY);
  if (row === undefined) throw new TypeError('no monitor');
  settling.state.monitors.set(KEY, { ...row, snapshot: encodeMonitor(long.monitor) });
  settling.state.monitorChunks.clear();
  await settling.mine([breachOf(601n).tx]);
  expect(settling.state.settlement.settlements.get(KEY)?.closeType).toBe('revoked');
});

test('chunks that are missing are an alarm, not another close', async () => {
  const settling = await Settling.start(99);
  await settling.watch(long.monitor);
  settling.state.monitorChunks.get(KEY)?.delete('state 2');
  await settling.mine([breachOf(601n).tx]);
  expect(settling.complaints).toMatchObject([{ channel: KEY, reason: /not at hand/ }]);
  expect(settling.state.settlement.settlements.has(KEY)).toBe(false);
});
