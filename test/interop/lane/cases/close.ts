/** Channels that end: together, by either side alone, after a breach, after lost data. */
import type { Case } from '../case.ts';
import { ensureClosed, forceClose, openBooks, settleBooks } from './closing.ts';
import { COOPERATIVE_CASES } from './cooperative.ts';
import { BREACH_CASES } from './breach.ts';
import { FORCE_CASES } from './force.ts';
import { SET_BACK_CASES } from './set-back.ts';
import { LIFE_CASES } from './life.ts';
import { invoiceOfFleet, peerWithChannel } from './support.ts';

const group = 'close';

function force(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `force by the ${by}`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      await peer.pay(await invoiceOfFleet(world, 250_000_000n));
      await world.agree(peer);
      const books = await openBooks(world, peer);
      const closingTxid = await forceClose(world, books, by, [peer]);
      await ensureClosed(world, books, by === 'fleet' ? 'holder' : 'counterparty', closingTxid);
      await settleBooks(world, books);
    },
  };
}

export const CLOSE_CASES: readonly Case[] = [
  ...COOPERATIVE_CASES,
  force('peer'),
  force('fleet'),
  ...LIFE_CASES,
  ...FORCE_CASES,
  ...BREACH_CASES,
  ...SET_BACK_CASES,
];
