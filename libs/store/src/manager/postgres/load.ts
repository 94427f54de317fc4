/** Reads a whole shard under its fence: a query per table, put together per channel. */
import type { Database, Session, Statement } from '../../pg/database.ts';
import type { Fence, LoadedChannel, LoadedPayment } from '../manager-store.ts';
import { decodeSource, hexKey } from '../source.ts';
import * as rows from './rows.ts';

interface ChannelKeyed {
  channel_id: Uint8Array;
}

type Loaded =
  | {
      readonly type: 'loaded';
      readonly channels: readonly LoadedChannel[];
      readonly payments: readonly LoadedPayment[];
    }
  | { readonly type: 'fence_lost' };

/** Holds the fence's lock until everything is read, so that what is read is what the new owner starts from. */
export async function loadShard(
  database: Database,
  statement: (name: string) => Statement,
  fence: Fence,
): Promise<Loaded> {
  return database.transaction(async (session): Promise<Loaded> => {
    const [held] = await session.query<{ holds: boolean }>(statement('fence_holds'), [
      fence.shard,
      fence.epoch,
      fence.replicaId,
    ]);
    if (held?.holds !== true) return { type: 'fence_lost' };
    const read = <R extends object>(name: string): Promise<R[]> =>
      session.query<R>(statement(name), [fence.shard]);
    const channels = await readChannels(read);
    const payments = await read<rows.PaymentColumns>('load_payments');
    return { type: 'loaded', channels, payments: payments.map(loadedPayment) };
  });
}

/** One payment, finished or not. */
export async function loadPayment(
  session: Session,
  statement: Statement,
  fence: Fence,
  paymentHash: Uint8Array,
): Promise<LoadedPayment | undefined> {
  const [row] = await session.query<rows.PaymentColumns>(statement, [paymentHash, fence.shard]);
  return row === undefined ? undefined : loadedPayment(row);
}

function loadedPayment(row: rows.PaymentColumns): LoadedPayment {
  return { paymentHash: row.payment_hash, version: row.version, state: row.state, row: rows.paymentRow(row) };
}

async function readChannels(
  read: <R extends object>(name: string) => Promise<R[]>,
): Promise<readonly LoadedChannel[]> {
  const channels = await read<rows.ChannelColumns>('load_channels');
  if (channels.length === 0) return [];
  const htlcs = byChannel(await read<rows.HtlcColumns>('load_htlcs'));
  const removals = byChannel(await read<rows.RemovalColumns>('load_removals'));
  const secrets = byChannel(
    await read<ChannelKeyed & { bucket: number; secret_index: bigint; secret: Uint8Array }>('load_secrets'),
  );
  const outgoing = byChannel(
    await read<
      ChannelKeyed & {
        htlc_id: bigint;
        source: Uint8Array;
        source_shard: number;
        incoming_amount_msat: bigint;
        fulfilled: boolean;
      }
    >('load_outgoing'),
  );
  const preimages = byChannel(
    await read<ChannelKeyed & { htlc_id: bigint; preimage: Uint8Array }>('load_preimages'),
  );
  const intents = new Map<string, bigint[]>();
  for (const { source: key } of await read<{ source: Uint8Array }>('load_intents')) {
    const source = decodeSource(key);
    if (source.type === 'htlc') entry(intents, hexKey(source.channelId)).push(source.htlcId);
  }
  return channels.map((row) => {
    const key = hexKey(row.channel_id);
    return {
      version: row.version,
      row: rows.channelRow(row),
      persisted: {
        hot: row.hot,
        cold: row.cold ?? new Uint8Array(),
        htlcs: (htlcs.get(key) ?? []).map(rows.htlcBody),
        removals: (removals.get(key) ?? []).map((removal) => ({
          direction: rows.direction(removal.direction),
          id: rows.unsigned(removal.htlc_id),
          removal: rows.htlcRemoval(removal),
        })),
        secretBuckets: (secrets.get(key) ?? []).map(({ bucket, secret_index: index, secret }) => ({
          bucket,
          index,
          secret,
        })),
        holderSignatures: row.signatures ?? undefined,
      },
      nextMonitorUpdateId: row.monitor_update_id + 1n,
      ...rows.closingDecision(row),
      fundingStatus: rows.fundingStatus(row),
      outgoing: (outgoing.get(key) ?? []).map((link) => ({
        htlcId: rows.unsigned(link.htlc_id),
        source: decodeSource(link.source),
        sourceShard: link.source_shard,
        incomingAmountMsat: link.incoming_amount_msat,
        preimage: link.fulfilled ? 'heard' : 'awaited',
      })),
      fulfilledLateMsat: row.fulfilled_late_msat ?? 0n,
      intentsWritten: intents.get(key) ?? [],
      preimages: (preimages.get(key) ?? []).map(({ htlc_id, preimage }) => ({
        htlcId: rows.unsigned(htlc_id),
        preimage,
      })),
    };
  });
}

function byChannel<R extends ChannelKeyed>(all: readonly R[]): ReadonlyMap<string, R[]> {
  const result = new Map<string, R[]>();
  for (const row of all) entry(result, hexKey(row.channel_id)).push(row);
  return result;
}

function entry<V>(map: Map<string, V[]>, key: string): V[] {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made: V[] = [];
  map.set(key, made);
  return made;
}
