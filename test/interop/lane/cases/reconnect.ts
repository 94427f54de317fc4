/** The connection is cut at every message of a payment, on both sides; an owner dies there. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { CutProxy, type Direction } from '../cut-proxy.ts';
import { ensureSucceeded, invoiceOfFleet, payByFleet } from './support.ts';

const group = 'reconnect';

/** More pieces than a payment has in one direction. */
const MAX_PIECES = 8;

function cutting(direction: Direction, by: 'peer' | 'fleet'): Case {
  const side = direction === 'from_peer' ? 'what the peer says' : 'what the fleet says';
  return {
    group,
    name: `a payment by the ${by}, cut after each piece of ${side}`,
    over: 'peers',
    run: async (world, kind) => {
      const proxy = await CutProxy.start([...world.fleet.lightningPorts.values()]);
      try {
        const peer = await world.peer(kind);
        await peer.connect(world.nodeId, proxy.port);
        await world.untilConnected(peer);
        await world.open(peer, 'peer');
        let cuts = 0;
        for (let pieces = 0; pieces < MAX_PIECES; pieces += 1) {
          await world.usable(peer);
          const amountMsat = 2_000_000n + BigInt(pieces);
          const bolt11 =
            by === 'peer'
              ? await invoiceOfFleet(world, amountMsat)
              : (await peer.invoice({ amountMsat })).bolt11;
          proxy.cutAfter(direction, pieces, () => (cuts += 1));
          if (by === 'peer') {
            ensureSucceeded(await peer.pay(bolt11), `cut after ${pieces}`);
          } else {
            const payment = await payByFleet(world, bolt11);
            ensure(payment.status === 'succeeded', `cut after ${pieces}: ${payment.failureReason}`);
          }
          proxy.disarm();
          await peer.connect(world.nodeId, proxy.port);
          await world.usable(peer);
          await world.agree(peer);
        }
        ensure(cuts >= 3, `only ${cuts} cuts came`);
      } finally {
        await proxy.stop();
      }
    },
  };
}

export const RECONNECT_CASES: readonly Case[] = [
  cutting('from_peer', 'peer'),
  cutting('to_peer', 'peer'),
  cutting('from_peer', 'fleet'),
  cutting('to_peer', 'fleet'),
  {
    group,
    name: 'both managers are killed under payments',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'peer');
      for (const manager of world.fleet.services.filter((name) => name.startsWith('channel-manager'))) {
        const invoices = await Promise.all(
          Array.from({ length: 4 }, (_, i) => invoiceOfFleet(world, 3_000_000n + BigInt(i))),
        );
        const paying = invoices.map((bolt11) => peer.pay(bolt11));
        await world.fleet.kill9AndWait(manager);
        for (const payment of await Promise.all(paying)) ensureSucceeded(payment, `${manager} was killed`);
      }
      await world.usable(peer);
      await world.agree(peer);
    },
  },
];
