/** A replica looks after its public channels by itself, whether or not anything happens. */
import { Pair } from '@fulmen/channel/testing/pair';
import { compareBytes } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import type { GraphPolicy } from '@fulmen/proto/router/v1/router';
import { nodeRuntime, type Runtime } from '@fulmen/service';
import { decodeMessage, type Message } from '@fulmen/wire';
import { expect, test } from 'vitest';
import { OWN_NODE_ID, type ReplicaOptions, startReplica } from './testing/replica.ts';

const HOUR_MS = 3_600_000;
const DAY_SECONDS = 86_400;
const DISABLE = 2;

/** A replica with one public channel, whose peer is away and of whose terms the network heard some days ago. */
async function publicChannel(daysAgo: number, options: ReplicaOptions) {
  const { alice } = new Pair(fakeSecp256k1, { announce: true });
  const known: GraphPolicy = {
    timestamp: Math.floor(Date.now() / 1_000) - daysAgo * DAY_SECONDS,
    cltvExpiryDelta: 72,
    htlcMinimumMsat: 1n,
    htlcMaximumMsat: 250_000_000n,
    feeBaseMsat: 1_000,
    feeProportionalMillionths: 1_000,
    disabled: false,
  };
  const { promise: told, resolve: tell } = Promise.withResolvers<readonly Message[]>();
  const { counterpartyNodeId } = alice.channel.parameters;
  const isFirst = compareBytes(OWN_NODE_ID, counterpartyNodeId) < 0;
  const { replica } = await startReplica(alice, {
    ...options,
    router: {
      lookupChannel: async ({ shortChannelId }) => ({
        channel: {
          shortChannelId,
          nodeId1: Buffer.from(isFirst ? OWN_NODE_ID : counterpartyNodeId),
          nodeId2: Buffer.from(isFirst ? counterpartyNodeId : OWN_NODE_ID),
          capacitySat: 1_000_000n,
          spentHeight: 0,
          policy1: known,
          policy2: known,
        },
      }),
      publishOwn: async ({ messages }) => {
        tell(
          messages.map((raw) => {
            const decoded = decodeMessage(raw);
            if (!decoded.ok) throw new TypeError(decoded.error.message);
            return decoded.value as Message;
          }),
        );
        return {};
      },
    },
  });
  return { replica, told };
}

/** Time as it is, but for an hour that is over when a test says so. */
function hourly(): { readonly runtime: Runtime; readonly pass: () => void } {
  const real = nodeRuntime({ onFailure: () => undefined });
  const { promise: over, resolve: pass } = Promise.withResolvers<undefined>();
  let isOver = false;
  const sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
    if (ms !== HOUR_MS || isOver) return real.sleep(ms, signal);
    await Promise.race([over, real.sleep(ms, signal)]);
    isOver = true;
  };
  return { runtime: { ...real, sleep }, pass: () => pass(undefined) };
}

test('terms that the network heard eight days ago are told again within the hour', async () => {
  const { runtime, pass } = hourly();
  const { replica, told } = await publicChannel(8, { runtime });
  pass();
  expect(await told).toMatchObject([{ type: 'channel_update', feeBaseMsat: 1_000 }]);
  await replica.stop();
});

test('a channel whose peer stays away is disabled', async () => {
  const { replica, told } = await publicChannel(0, { disableAfterMs: 0 });
  const [update, ...others] = await told;
  if (update?.type !== 'channel_update') throw new TypeError(update?.type ?? 'nothing');
  expect(update.channelFlags & DISABLE).toBe(DISABLE);
  expect(others).toEqual([]);
  await replica.stop();
});
