/** Channels that end: together, by either side alone, after a breach, after lost data. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { closeBy, closingInMempool, closings, display, openBooks, settleBooks } from './closing.ts';
import { BREACH_CASES } from './breach.ts';
import { FORCE_CASES } from './force.ts';
import { invoiceOfFleet, peerWithChannel } from './support.ts';

const group = 'close';

function closing(by: 'peer' | 'fleet', how: 'cooperative' | 'force'): Case {
  return {
    group,
    name: `${how} by the ${by}`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      await peer.pay(await invoiceOfFleet(world, 250_000_000n));
      await world.agree(peer);
      const books = await openBooks(world, peer);
      await closeBy(world, peer, by, how);
      const closingTxid = await closingInMempool(world, books);
      await world.mine(1);
      const [closed] = await closings(world, books);
      ensure(
        closed?.stage === 'closed' && display(closed.closingTxid) === closingTxid,
        'the fleet has another close',
      );
      const expected = how === 'cooperative' ? 'mutual' : by === 'fleet' ? 'holder' : 'counterparty';
      ensure(closed.closeType === expected, `closed as ${closed.closeType}`);
      await settleBooks(world, books);
    },
  };
}

export const CLOSE_CASES: readonly Case[] = [
  closing('peer', 'cooperative'),
  closing('fleet', 'cooperative'),
  closing('peer', 'force'),
  closing('fleet', 'force'),
  ...FORCE_CASES,
  ...BREACH_CASES,
];
