/** Which of the ordered holder commitments are of use: those whose funding is published, as it was agreed on. */
import { type Tx, displayHash, encodeTx, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainUtxo } from '@fulmen/chain';
import { toHex } from '@fulmen/codec';
import type { FundingRecord } from '@fulmen/store/chain/chain-store';
import { beforeEach, expect, test } from 'vitest';
import { ChainView } from '../state/view.ts';
import { EMPTY_SNAPSHOT } from '../testing/empty-snapshot.ts';
import { OwnCommitments, unseenFundings } from './own-commitments.ts';

const CHANNEL_ID = new Uint8Array(32).fill(1);
const SCRIPT = new Uint8Array(34).fill(2);
const FUNDING_SAT = 1_000_000n;

const spending = (txid: Uint8Array, valueSat: bigint, script = SCRIPT): Tx => ({
  version: 2,
  locktime: 0,
  inputs: [{ txid, vout: 0, scriptSig: new Uint8Array(0), sequence: 0, witness: [] }],
  outputs: [{ valueSat, script }],
});
const FUNDING_TX = spending(new Uint8Array(32).fill(3), FUNDING_SAT);
const COMMITMENT = spending(txidOf(FUNDING_TX), FUNDING_SAT - 500n, new Uint8Array(34).fill(4));
const RECORD: FundingRecord = {
  channelId: CHANNEL_ID,
  fundingTxid: txidOf(FUNDING_TX),
  fundingOutputIndex: 0,
  fundingValueSat: FUNDING_SAT,
  scriptPubKey: SCRIPT,
  minimumDepth: 3,
};

const node = {
  mempool: undefined as Tx | undefined,
  utxo: undefined as ChainUtxo | undefined,
  asked: 0,
};
const own = (): OwnCommitments =>
  new OwnCommitments({
    getMempoolTransaction: async () => {
      node.asked += 1;
      return node.mempool === undefined ? undefined : encodeTx(node.mempool);
    },
    getUtxo: async () => node.utxo,
  });

beforeEach(() => Object.assign(node, { mempool: undefined, utxo: undefined, asked: 0 }));

/** A close that was ordered. */
function view(funding: FundingRecord = RECORD): ChainView {
  const made = new ChainView(EMPTY_SNAPSHOT);
  made.apply({
    fundings: [funding],
    broadcasts: [
      {
        orderId: new Uint8Array(32).fill(9),
        kind: 'force_close',
        channelId: CHANNEL_ID,
        transactions: [encodeTx(COMMITMENT)],
        confirmedHeights: [undefined],
      },
    ],
  });
  return made;
}

function connect(to: ChainView, height: number): void {
  const hash = new Uint8Array(32).fill(height);
  to.apply({
    block: { type: 'connect', block: { height, hash, prevHash: to.tip?.hash ?? hash, timeUnixSeconds: 0 } },
  });
}

async function known(of: ChainView): Promise<readonly string[]> {
  const commitments = own();
  await commitments.look(unseenFundings(of));
  return [...(commitments.of(of).get(toHex(CHANNEL_ID))?.keys() ?? [])];
}

const USEFUL = [displayHash(txidOf(COMMITMENT))];
const UTXO: ChainUtxo = { valueSat: FUNDING_SAT, script: SCRIPT, confirmations: 500, coinbase: false };

test('a funding that a block has shown needs no question; of another amount than was agreed on it is none', async () => {
  expect(await known(view({ ...RECORD, seen: { height: 7, txIndex: 1 } }))).toEqual(USEFUL);
  expect(await known(view({ ...RECORD, seen: { height: 7, txIndex: 1, fault: 'another' } }))).toEqual([]);
  expect(node.asked).toBe(0);
});

test('one that no block has shown must wait in the mempool', async () => {
  expect(await known(view())).toEqual([]);
  node.mempool = FUNDING_TX;
  expect(await known(view())).toEqual(USEFUL);
  node.mempool = spending(new Uint8Array(32).fill(3), FUNDING_SAT - 1n);
  expect(await known(view())).toEqual([]);
});

test('or be in a block that was never read', async () => {
  node.utxo = UTXO;
  expect(await known(view())).toEqual(USEFUL);
  node.utxo = { ...UTXO, valueSat: 1n };
  expect(await known(view())).toEqual([]);
});

test('it is asked for once a block, and what was said stands until the next look', async () => {
  const commitments = own();
  const chain = view();
  connect(chain, 1);
  await commitments.look(unseenFundings(chain));
  node.mempool = FUNDING_TX;
  await commitments.look(unseenFundings(chain));
  expect(commitments.of(chain).size).toBe(0);
  connect(chain, 2);
  await commitments.look(unseenFundings(chain));
  await commitments.look(unseenFundings(chain));
  expect(node.asked).toBe(2);
  connect(chain, 3);
  expect(commitments.of(chain).size).toBe(1);
});
