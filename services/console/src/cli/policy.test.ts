/** channels policy: one channel's, or that of every channel, whichever replica has it. */
import { toHex } from '@fulmen/codec';
import type { UpdateChannelPolicyRequest } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import { expect, test } from 'vitest';
import { channel, NODE_ID, startCli } from '../testing/cli.ts';
import { redirect } from '../testing/harness.ts';

const idOf = (number: number): Uint8Array => new Uint8Array(32).fill(number);

interface Held {
  /** The replica whose actor has the channel. */
  owner: string;
  shard?: number;
  phase?: string;
  /** Why its owner does not set its policy. */
  fault?: RpcError;
}

/** Two managers, and what each was asked to set. */
async function fleet(channels: Record<number, Held>, listed: () => void = () => undefined) {
  const set: string[] = [];
  const of = (replica: string) => ({
    getInfo: () =>
      Promise.resolve({
        nodeId: NODE_ID,
        network: 'regtest',
        blockHeight: 1,
        channelsOpen: 5,
        channelsPending: 0,
        peersConnected: 0,
        replicas: ['a', 'b'].map((name) => ({ replicaId: name, address: `manager-${name}`, shards: 128 })),
      }),
    listChannels: () => {
      const list = Object.entries(channels).map(([number, { owner, phase, shard }]) => ({
        ...channel,
        channelId: idOf(Number(number)),
        ownerReplicaId: owner,
        phase: phase ?? 'open',
        shard: shard ?? 5,
      }));
      listed();
      return Promise.resolve({ channels: list });
    },
    updateChannelPolicy: ({ channelId, feeBaseMsat }: UpdateChannelPolicyRequest) => {
      const held = channels[channelId[0] ?? 0];
      if (held === undefined) return Promise.reject(new RpcError('not_found', 'no such channel'));
      if (held.owner !== replica) return redirect(held.owner === '' ? '' : `manager-${held.owner}`);
      if (held.fault !== undefined) return Promise.reject(held.fault);
      set.push(`${channelId[0]}: ${feeBaseMsat} at ${replica}`);
      return Promise.resolve({ channels: 1, notSet: [] });
    },
  });
  const cli = await startCli(of('a'));
  const b = await cli.serve('manager-b', of('b'));
  return { ...cli, b, set };
}

const ALL = ['channels', 'policy', 'all', '--fee-base-msat', '7'];

test('every channel is set, whichever replica has it', async () => {
  const { run, set, audit } = await fleet({
    1: { owner: 'a' },
    2: { owner: 'a' },
    3: { owner: 'b' },
    4: { owner: 'b' },
    5: { owner: 'b' },
  });
  expect(await run(ALL)).toEqual({ code: 0, stdout: 'Policy of 5 channels set.\n', stderr: '' });
  expect(set.toSorted()).toEqual(['1: 7 at a', '2: 7 at a', '3: 7 at b', '4: 7 at b', '5: 7 at b']);
  expect(audit()).toMatchObject([{ outcome: 'ok', request: { feeBaseMsat: 7, channels: 5, notSet: 0 } }]);
});

test('a channel that moves meanwhile is set where it went; what closes has no policy to set', async () => {
  const channels: Record<number, Held> = {
    1: { owner: 'a' },
    2: { owner: 'b' },
    3: { owner: 'a', phase: 'closing_force' },
    4: { owner: 'b', phase: 'passive' },
  };
  const { run, set } = await fleet(channels, () => {
    for (const held of Object.values(channels)) held.owner = held.owner === 'a' ? 'b' : 'a';
  });
  expect((await run(ALL)).stdout).toBe('Policy of 2 channels set.\n');
  expect(set.toSorted()).toEqual(['1: 7 at b', '2: 7 at a']);
});

test('what could not be set is told with its reason and ends in an error; the others are set, and asking again is enough', async () => {
  const channels: Record<number, Held> = {
    1: { owner: 'a' },
    2: { owner: 'b', fault: new RpcError('failed_precondition', 'the channel is out of service') },
    3: { owner: '' },
    4: { owner: 'b' },
  };
  const { run, set } = await fleet(channels);
  const { code, stdout, stderr } = await run(ALL);
  expect(code).toBe(1);
  expect(stdout).toContain('Policy of 2 channels set.');
  expect(stdout).toMatch(new RegExp(`${toHex(idOf(2)).slice(0, 8)}.*the channel is out of service`));
  expect(stdout).toMatch(new RegExp(`${toHex(idOf(3)).slice(0, 8)}.*No channel-manager owns`));
  expect(stderr).toContain('2 of 4 channels are not set');
  expect(set.toSorted()).toEqual(['1: 7 at a', '4: 7 at b']);
  delete channels[2]?.fault;
  channels[3] = { owner: 'b' };
  expect((await run(ALL)).stdout).toBe('Policy of 4 channels set.\n');
});

test('a replica that does not answer: its channels are told of', async () => {
  const { run, set, b } = await fleet({ 1: { owner: 'a' }, 2: { owner: 'b' } });
  await b.stop(0);
  const { code, stdout } = await run([...ALL, '-o', 'json']);
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ channels: 1, not_set: [{ channel_id: toHex(idOf(2)) }] });
  expect(set).toEqual(['1: 7 at a']);
});

test('a shard that nobody has keeps no channel of another from being set', async () => {
  const channels: Record<number, Held> = {};
  const fault = new RpcError('unavailable', 'no replica owns this shard at the moment: try again');
  // More than are asked for at once.
  for (let number = 1; number <= 12; number += 1) channels[number] = { owner: 'b', fault };
  for (let number = 13; number <= 15; number += 1) channels[number] = { owner: 'b', shard: 6 };
  const { run, set } = await fleet(channels);
  const { code, stderr } = await run(ALL);
  expect(code).toBe(1);
  expect(stderr).toContain('12 of 15 channels are not set');
  expect(set.toSorted()).toEqual(['13: 7 at b', '14: 7 at b', '15: 7 at b']);
});

test('terms that no channel may have are refused as a whole', async () => {
  const fault = new RpcError('invalid_argument', 'cltv_expiry_delta must be between 48 and 2016, not 1');
  const { run, set } = await fleet({ 1: { owner: 'a', fault }, 2: { owner: 'b', fault } });
  expect(await run(ALL)).toMatchObject({ code: 1, stdout: '', stderr: `fulmen: ${fault.message}\n` });
  expect(set).toEqual([]);
});
