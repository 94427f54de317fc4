/** Channels opened from either side. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { NotApplicable } from '../peer.ts';
import type { Opening } from '../world.ts';
import { FUNDING_CASES } from './funding.ts';
import { KIND_CASES } from './open-kinds.ts';
import { REFUSE_CASES } from './refuse.ts';

const group = 'open';

const LARGE_SAT = 20_000_000n;

function opened(name: string, by: 'peer' | 'fleet', options: Opening): Case {
  return {
    group,
    name,
    over: 'peers',
    run: async (world, kind) => {
      if (kind === 'ldk-node' && by === 'fleet' && (options.fundingSat ?? 0n) >= LARGE_SAT)
        throw new NotApplicable('ldk-node takes channels below 2^24 sat');
      const peer = await world.peer(kind);
      await world.connect(peer);
      const { ours, theirs } = await world.open(peer, by, options);
      const anchors = (options.format ?? 'anchors') === 'anchors';
      if (theirs.isAnchors !== undefined)
        ensure(theirs.isAnchors === anchors, `the channel ${anchors ? 'has' : 'has no'} anchors`);
      ensure(ours.channelType.includes('anchor') === anchors, `the fleet says ${ours.channelType}`);
      ensure(ours.capacitySat === theirs.capacitySat, 'both know the capacity');
      ensure(theirs.isAnnounced === (options.announce === 'announced'), 'both know whether it is public');
      await world.agree(peer);
    },
  };
}

export const OPEN_CASES: readonly Case[] = [
  opened('by the peer, anchors, private, with a push', 'peer', { pushMsat: 1_234_567_000n }),
  opened('by the fleet, anchors, private, with a push', 'fleet', { pushMsat: 1_234_567_000n }),
  opened('by the peer, static_remotekey', 'peer', { format: 'static_remotekey' }),
  opened('by the fleet, static_remotekey', 'fleet', { format: 'static_remotekey' }),
  opened('by the peer, announced', 'peer', { announce: 'announced' }),
  opened('by the fleet, announced', 'fleet', { announce: 'announced' }),
  opened('by the peer, above 2^24 sat', 'peer', { fundingSat: LARGE_SAT }),
  opened('by the fleet, above 2^24 sat', 'fleet', { fundingSat: LARGE_SAT }),
  ...KIND_CASES,
  ...REFUSE_CASES,
  ...FUNDING_CASES,
];
