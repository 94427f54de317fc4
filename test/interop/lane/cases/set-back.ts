/**
 * A fleet whose databases were set back: it may not broadcast what it believes to be its newest commitment, because that
 * one is revoked. It goes passive, asks its peer to close, and is paid by the peer's commitment.
 */
import fs from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { backUp, replace } from '../../../e2e/faults/set-back.ts';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer } from '../peer.ts';
import type { World } from '../world.ts';
import { type Books, openBooks, settleBooks } from './books.ts';
import { closingInMempool, closings } from './closing.ts';
import { ensureSucceeded, invoiceOfFleet, peerWithChannel } from './support.ts';

const NODE = 'fulmen_node';
const SIGNER = 'fulmen_signer';
type Database = typeof NODE | typeof SIGNER;
const FORGOTTEN_MSAT = 40_000_000n;
const PAYMENTS = 3;
/** Everything that reads a database keeps what it read. */
const READERS = ['console', 'channel-manager-1', 'channel-manager-2', 'router', 'chain-monitor'] as const;

let copies = 0;

/** Copies databases, lets `story` happen, and puts the copies in their places. */
async function setBack(
  world: World,
  databases: readonly Database[],
  story: () => Promise<void>,
): Promise<void> {
  const { supervisor, stateDir, postgres } = world.fleet;
  const asked = {
    rows: async <R>(database: string, text: string, values: readonly unknown[] = []): Promise<R[]> => {
      const client = new pg.Client({ connectionString: postgres.url(database) });
      await client.connect();
      try {
        return (await client.query(text, [...values])).rows as R[];
      } finally {
        await client.end();
      }
    },
  };
  // Others may count on while this one is under way.
  copies += 1;
  const copy = copies;
  const marker = path.join(stateDir, 'signer', 'seed.json.generation');
  const marked = fs.readFileSync(marker);
  for (const database of databases) await backUp(asked, database, `${database}_of_old_${copy}`);
  await story();
  const isSignerToo = databases.includes(SIGNER);
  const users = [...READERS, ...(isSignerToo ? ['signer'] : [])];
  await Promise.all(users.map((name) => supervisor.stop(name)));
  for (const database of databases)
    await replace(asked, database, `${database}_of_old_${copy}`, `${database}_lost_${copy}`);
  // Set back with the database: with a later marker, or none, the signer would sign nothing at all.
  if (isSignerToo) fs.writeFileSync(marker, marked);
  if (isSignerToo) await supervisor.restart('signer');
  await Promise.all(READERS.map((name) => supervisor.restart(name)));
}

/** The fleet's newest state is with the peer alone. */
async function forgetPayments(world: World, peer: InteropPeer): Promise<Books> {
  for (let i = 0; i < PAYMENTS; i += 1)
    ensureSucceeded(await peer.pay(await invoiceOfFleet(world, FORGOTTEN_MSAT + BigInt(i))), 'a payment');
  await world.agree(peer);
  return openBooks(world, peer);
}

function lostData(what: string, databases: readonly Database[]): Case {
  return {
    group: 'close',
    name: `by the peer, for the fleet, whose ${what} set back: the fleet is passive, and paid what it has forgotten`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      ensureSucceeded(await peer.pay(await invoiceOfFleet(world, FORGOTTEN_MSAT)), 'a payment');
      await world.agree(peer);
      const opened = { books: undefined as Books | undefined };
      await setBack(world, databases, async () => {
        opened.books = await forgetPayments(world, peer);
      });
      const { books } = opened;
      ensure(books !== undefined, 'the books are open');
      await untilPassive(world, peer);
      await ensureNotClosed(world, peer);
      const closingTxid = await closingInMempool(world, books);
      await world.mine(1);
      const [closed] = await until('the close in the fleet’s books', async () => {
        const found = await closings(world, books);
        return found.some(({ stage }) => stage === 'closed') ? found : undefined;
      });
      ensure(
        closed !== undefined && ['counterparty', 'counterparty_next', 'data_loss'].includes(closed.closeType),
        `closed as ${closed?.closeType} by ${closingTxid}`,
      );
      await settleBooks(world, books);
    },
  };
}

async function untilPassive(world: World, peer: InteropPeer): Promise<void> {
  await until('the channel is passive', async () =>
    (await world.fleetChannels(peer)).some(({ phase }) => phase === 'passive') ? true : undefined,
  );
}

/** Whoever asks for a force close is refused: what would be broadcast is revoked. */
async function ensureNotClosed(world: World, peer: InteropPeer): Promise<void> {
  const [channel] = await world.fleetChannels(peer);
  ensure(channel !== undefined, 'the channel is there');
  const answer = await world.node.channels
    .closeChannel({ channelId: channel.channelId, force: true }, world.node.auth())
    .then(
      () => 'taken',
      () => 'refused',
    );
  ensure(answer === 'refused', 'a force close was not refused');
  const [now] = await world.fleetChannels(peer);
  ensure(now?.phase === 'passive', `the channel is ${now?.phase}`);
}

export const SET_BACK_CASES: readonly Case[] = [
  lostData('node database was', [NODE]),
  lostData('databases were', [NODE, SIGNER]),
];
