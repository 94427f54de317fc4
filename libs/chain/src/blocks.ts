/**
 * Blocks of any source, read in one way and believed only as far as they
 * prove themselves: the header's hash and work, and that each transaction is
 * one of those that the header commits to.
 *
 * What a source of filtered blocks leaves out cannot be proven to be absent.
 * It is found when the source tells of it at a later block (`earlier`).
 */
import {
  type Block,
  type BlockHeader,
  type Network,
  type NetworkName,
  type Tx,
  blockHash,
  decodeBlock,
  decodeBlockHeader,
  decodeTx,
  displayHash,
  encodeTxWithoutWitness,
  meetsProofOfWork,
  merkleRootOfBranch,
  parseDisplayHash,
  targetOf,
  txid as txidOf,
} from '@fulmen/bitcoin';
import { bytesEqual } from '@fulmen/bitcoin/bytes';
import type { ChainFilter } from './filter.ts';
import type { ChainSource, FilteredBlock, ProvenTransaction } from './source.ts';

/** A block, or of a block what was registered. `txids` and `txIndexes` are of `transactions`, one for one. */
export interface ChainBlock extends Block {
  /** Positions in the block. */
  readonly txIndexes: readonly number[];
  readonly coverage: 'whole' | 'registered';
  /** Earlier blocks that hold something registered; none of a whole block. */
  readonly earlier: FilteredBlock['earlier'];
}

export type BlockReading =
  | { readonly kind: 'block'; readonly block: ChainBlock }
  /** The source does not have it (yet), or its chain changed under the question. */
  | { readonly kind: 'absent' }
  /** What it gave is not the block that was asked for. */
  | { readonly kind: 'fault'; readonly reason: string };

/** A transaction of this length without its witness looks like an inner node of a merkle tree. */
const AMBIGUOUS_TX_LENGTH = 64;
const RETARGET_INTERVAL = 2_016;
/** BIP 9's chains aside: the target moves by this factor at most at a retarget. */
const MAX_RETARGET_FACTOR = 4n;
/** The easiest target of each network. */
const POW_LIMIT_BITS: Readonly<Record<NetworkName, number>> = {
  mainnet: 0x1d00_ffff,
  testnet: 0x1d00_ffff,
  signet: 0x1e03_77ae,
  regtest: 0x207f_ffff,
};

/** The filter is asked for only by sources that need one. @throws ChainSourceError */
export async function readBlock(
  source: ChainSource,
  network: Network,
  at: { readonly hash: string; readonly height: number },
  filter: () => ChainFilter,
): Promise<BlockReading> {
  if ('getFilteredBlock' in source) {
    const filtered = await source.getFilteredBlock(at.hash, filter());
    return filtered === undefined ? { kind: 'absent' } : checkFiltered(filtered, network, at);
  }
  const raw = await source.getBlock(at.hash);
  if (raw === undefined) return { kind: 'absent' };
  const block = decodeBlock(raw);
  if (!block.ok) return { kind: 'fault', reason: block.error.message };
  const fault = checkHeader(block.value.header, network, at.hash);
  if (fault !== undefined) return { kind: 'fault', reason: fault };
  return {
    kind: 'block',
    block: {
      ...block.value,
      txIndexes: block.value.transactions.map((_, index) => index),
      coverage: 'whole',
      earlier: [],
    },
  };
}

/** Why this header is not the one asked for, or shows no work. */
function checkHeader(header: BlockHeader, network: Network, hash: string): string | undefined {
  if (displayHash(blockHash(header)) !== hash) return 'it is another block';
  const target = targetOf(header.bits);
  const limit = targetOf(POW_LIMIT_BITS[network.name]);
  if (!meetsProofOfWork(header) || target === undefined || limit === undefined || target > limit)
    return 'it has no proof of work';
  return undefined;
}

/**
 * Why the header's target does not follow from the one before. At a retarget the exact target would need a header two
 * weeks older; its bounds are enough to make a forged chain cost what a block costs.
 */
function checkTarget(
  header: BlockHeader,
  previous: BlockHeader,
  network: Network,
  height: number,
): string | undefined {
  // Test networks let a block be easy when none came for a while.
  if (network.name === 'testnet') return undefined;
  if (network.name === 'regtest' || height % RETARGET_INTERVAL !== 0)
    return header.bits === previous.bits ? undefined : 'its target is not that of the block before';
  const [target, before] = [targetOf(header.bits), targetOf(previous.bits)];
  if (target === undefined || before === undefined) return 'it states no target';
  // Targets are rounded when they are written, by less than one part in 2^15.
  const isWithin =
    target <= before * MAX_RETARGET_FACTOR && target * MAX_RETARGET_FACTOR + (before >> 14n) >= before;
  return isWithin ? undefined : 'its target is too far from that of the block before';
}

function checkFiltered(
  filtered: FilteredBlock,
  network: Network,
  at: { readonly hash: string; readonly height: number },
): BlockReading {
  const fault = (reason: string): BlockReading => ({ kind: 'fault', reason });
  const header = decodeBlockHeader(filtered.header);
  if (!header.ok) return fault(header.error.message);
  const wrong = checkHeader(header.value, network, at.hash);
  if (wrong !== undefined) return fault(wrong);
  if (at.height > 0) {
    if (filtered.previousHeader === undefined) return fault('the header before it is missing');
    const previous = decodeBlockHeader(filtered.previousHeader);
    if (!previous.ok) return fault(previous.error.message);
    if (!bytesEqual(blockHash(previous.value), header.value.prevHash))
      return fault('the header before it is of another block');
    const target = checkTarget(header.value, previous.value, network, at.height);
    if (target !== undefined) return fault(target);
  }
  const transactions: Tx[] = [];
  const txids: Uint8Array[] = [];
  let last = -1;
  for (const proven of filtered.transactions) {
    const tx = provenTx(proven, header.value);
    if (tx === undefined) return fault(`transaction ${proven.index} is not in it`);
    if (proven.index <= last) return fault('its transactions are out of order');
    last = proven.index;
    transactions.push(tx);
    txids.push(txidOf(tx));
  }
  if (filtered.earlier.some(({ height }) => height >= at.height)) return fault('what is earlier is not');
  return {
    kind: 'block',
    block: {
      hash: parseDisplayHash(at.hash),
      header: header.value,
      transactions,
      txids,
      txIndexes: filtered.transactions.map(({ index }) => index),
      coverage: 'registered',
      earlier: filtered.earlier,
    },
  };
}

/** The transaction, when its proof leads to the header. */
export function provenTx(proven: ProvenTransaction, header: BlockHeader): Tx | undefined {
  const tx = decodeTx(proven.tx);
  if (!tx.ok || encodeTxWithoutWitness(tx.value).length === AMBIGUOUS_TX_LENGTH) return undefined;
  if (!proven.merkleBranch.every((hash) => /^[0-9a-f]{64}$/.test(hash))) return undefined;
  const root = merkleRootOfBranch(txidOf(tx.value), proven.index, proven.merkleBranch.map(parseDisplayHash));
  return root !== undefined && bytesEqual(root, header.merkleRoot) ? tx.value : undefined;
}
