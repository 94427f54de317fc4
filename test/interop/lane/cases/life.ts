/** One channel from its opening by the fleet to its close: the recording of it is replayed by `npm test`. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { openBooks, settleBooks } from './books.ts';
import { closeByFleet, closingInMempool } from './closing.ts';
import { ensureSucceeded, invoiceOfFleet, payByFleet } from './support.ts';

/** LND takes no less where it has no estimates. */
const CLOSING_SAT_PER_KW = 6_250;

export const LIFE_CASES: readonly Case[] = [
  {
    group: 'close',
    name: 'opened by the fleet, paid both ways, one payment failed, closed by the fleet',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'fleet');
      const { bolt11 } = await peer.invoice({ amountMsat: 30_000_000n });
      const paid = await payByFleet(world, bolt11);
      ensure(paid.status === 'succeeded', `the fleet: ${paid.failureReason}`);
      ensureSucceeded(await peer.pay(await invoiceOfFleet(world, 20_000_000n)), 'the peer');
      const held = await peer.invoice({ amountMsat: 10_000_000n, hold: 'hold' });
      const failing = payByFleet(world, held.bolt11);
      await world.waitUntilHeld(peer, held.paymentHash);
      await peer.cancel(held.paymentHash);
      ensure((await failing).status === 'failed', 'the cancelled payment fails');
      await world.agree(peer);
      const books = await openBooks(world, peer);
      await closeByFleet(world, peer, 'cooperative', { feerateSatPerKw: CLOSING_SAT_PER_KW });
      await closingInMempool(world, books);
      await world.mine(1);
      await settleBooks(world, books);
    },
  },
];
