/** LND as a peer: its process on a bitcoind, driven through its REST interface. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { guardChild } from '../../e2e/support/guard.ts';
import { freePort } from '../../e2e/support/state.ts';
import { until } from '../../e2e/main-job/waiting.ts';
import type { BitcoindAccess } from './chain.ts';
import { LndAcceptor } from './lnd-acceptor.ts';
import { openRequest } from './lnd-open.ts';
import { LndGraph } from './lnd-graph.ts';
import { isRefusal, type Json, LndRest } from './lnd-rest.ts';
import { attemptOutcome, failureOf, routeJson } from './lnd-routes.ts';
import {
  type CloseOptions,
  type InteropPeer,
  type InvoiceOptions,
  NotApplicable,
  type OpenAnswer,
  type OpenOptions,
  type PeerChannel,
  PeerError,
  type PeerPayment,
  type PeerTerms,
  type RawPayment,
  type RoutedPayment,
} from './peer.ts';

/** A payment may be held over many blocks, and says nothing meanwhile. */
const CALL_TIMEOUT_MS = 240_000;
const BOTH_ANCHORS_SAT = 660n;
const DIAL_TIMEOUT_MS = 5_000;
const START_TIMEOUT_MS = 120_000;

/** Path of an lnd: FULMEN_LND, or what `peers/get-lnd.sh` built. */
export function findLnd(): string | undefined {
  const ours = path.join(import.meta.dirname, '../../../.fulmen/peers/lnd/bin/lnd');
  for (const candidate of [process.env['FULMEN_LND'], ours])
    if (candidate !== undefined && candidate !== '' && fs.existsSync(candidate)) return candidate;
  return undefined;
}

export function lndVersion(binary: string): string {
  const said = spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout;
  return `lnd ${/version (\S+)/.exec(said)?.[1] ?? 'of unknown version'}`;
}

export interface LndOptions {
  readonly name: string;
  readonly binary: string;
  readonly dataDir: string;
  readonly chain: BitcoindAccess;
  readonly extra?: readonly string[];
  /** option_support_large_channel; known unless said otherwise. */
  readonly largeChannels?: 'known' | 'unknown';
}

const hexOf = (base64: unknown): string => Buffer.from(String(base64 ?? ''), 'base64').toString('hex');
const list = (value: unknown): readonly Json[] => (Array.isArray(value) ? (value as Json[]) : []);

export class Lnd implements InteropPeer {
  readonly kind = 'lnd';
  readonly version: string;
  readonly name: string;
  nodeId = '';
  readonly port: number;
  readonly #options: LndOptions;
  readonly #ports: { readonly rest: number; readonly rpc: number };
  #child: ChildProcess | undefined;
  readonly #rest: LndRest;
  #acceptor: LndAcceptor | undefined;
  readonly graph = new LndGraph({
    call: (method, route, body) => this.#rest.call(method, route, body),
    fundingOf: async (channelId) => {
      const channel = (await this.channels()).find((one) => one.channelId === channelId);
      if (channel === undefined) throw new PeerError('no such channel');
      return { txid: channel.fundingTxid, outputIndex: channel.fundingOutputIndex };
    },
  });

  private constructor(options: LndOptions, ports: { p2p: number; rest: number; rpc: number }) {
    this.#options = options;
    this.name = options.name;
    this.port = ports.p2p;
    this.#ports = ports;
    this.#rest = new LndRest({ name: options.name, dataDir: options.dataDir, port: ports.rest });
    this.version = lndVersion(options.binary);
  }

  static async start(options: LndOptions): Promise<Lnd> {
    const lnd = new Lnd(options, { p2p: await freePort(), rest: await freePort(), rpc: await freePort() });
    await lnd.#start();
    return lnd;
  }

  async #start(): Promise<void> {
    const { binary, dataDir, chain, name, extra = [], largeChannels = 'known' } = this.#options;
    fs.mkdirSync(dataDir, { recursive: true });
    const log = fs.openSync(path.join(dataDir, 'out.log'), 'a');
    const args = [
      `--lnddir=${dataDir}`,
      `--alias=${name}`,
      '--noseedbackup',
      '--bitcoin.regtest',
      '--bitcoin.node=bitcoind',
      `--bitcoind.rpchost=${chain.host}:${chain.port}`,
      `--bitcoind.rpcuser=${chain.user}`,
      `--bitcoind.rpcpass=${chain.password}`,
      `--bitcoind.zmqpubrawblock=${chain.zmqBlock}`,
      `--bitcoind.zmqpubrawtx=${chain.zmqTx}`,
      `--listen=127.0.0.1:${this.port}`,
      `--rpclisten=127.0.0.1:${this.#ports.rpc}`,
      `--restlisten=127.0.0.1:${this.#ports.rest}`,
      '--accept-keysend',
      '--maxpendingchannels=10',
      '--trickledelay=200',
      // Else it grows with the channel's size, and every forced close waits for hundreds of blocks.
      '--bitcoin.defaultremotedelay=144',
      ...(largeChannels === 'known' ? ['--protocol.wumbo-channels'] : []),
      ...extra,
    ];
    const child = spawn(binary, args, { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    guardChild(child, 'TERM');
    this.#child = child;
    const info = await until(
      `${name} answers`,
      async () => {
        const got = await this.#rest.call('GET', '/v1/getinfo');
        return got['synced_to_chain'] === true ? got : undefined;
      },
      START_TIMEOUT_MS,
    );
    this.nodeId = String(info['identity_pubkey']);
  }

  async sync(): Promise<void> {
    const { chain } = this.#options;
    await until(`${this.name} at the tip`, async () => {
      const info = await this.#rest.call('GET', '/v1/getinfo');
      return Number(info['block_height']) >= (await chain.height()) && info['synced_to_chain'] === true
        ? true
        : undefined;
    });
  }

  async newAddress(): Promise<string> {
    return String((await this.#rest.call('GET', '/v1/newaddress?type=0'))['address']);
  }

  async onchainSat(): Promise<bigint> {
    return BigInt(String((await this.#rest.call('GET', '/v1/balance/blockchain'))['total_balance']));
  }

  async connect(nodeId: string, port: number, host = '127.0.0.1'): Promise<void> {
    const addr = { pubkey: nodeId, host: `${host}:${port}` };
    await this.#rest.call('POST', '/v1/peers', { addr, perm: true }).catch((error: unknown) => {
      if (!(error instanceof PeerError) || !/already connected/.test(error.message)) throw error;
    });
    // LND dials in the background, and drops a dialling that was asked for while the connection before was ending.
    await until(
      `${this.name} has dialled`,
      async () => ((await this.isConnected(nodeId)) ? true : undefined),
      DIAL_TIMEOUT_MS,
    );
  }

  async disconnect(nodeId: string): Promise<void> {
    await this.#rest.call('DELETE', `/v1/peers/${nodeId}`);
  }

  async isConnected(nodeId: string): Promise<boolean> {
    const { peers } = await this.#rest.call('GET', '/v1/peers');
    return list(peers).some((peer) => peer['pub_key'] === nodeId);
  }

  async open(options: OpenOptions): Promise<void> {
    await this.#rest.call('POST', '/v1/channels', openRequest(options));
  }

  async answerOpens(answer: OpenAnswer): Promise<void> {
    if (this.#acceptor !== undefined) {
      this.#acceptor.answer = answer;
      return;
    }
    this.#acceptor = await LndAcceptor.open({
      port: this.#ports.rpc,
      certificateFile: path.join(this.#options.dataDir, 'tls.cert'),
      macaroonFile: path.join(this.#options.dataDir, 'data/chain/bitcoin/regtest/admin.macaroon'),
      answer,
    });
  }

  async channels(): Promise<readonly PeerChannel[]> {
    const { channels } = await this.#rest.call('GET', '/v1/channels');
    const inGraph = new Set<unknown>();
    // LND pays over a channel once its own graph has it, a moment after it calls the channel active.
    for (const { chan_id: id } of list(channels)) if (await this.#knowsEdge(String(id))) inGraph.add(id);
    return list(channels).map((channel): PeerChannel => {
      const [fundingTxid = '', fundingOutputIndex = '0'] = String(channel['channel_point']).split(':');
      const isFunder = channel['initiator'] === true;
      const ownSat = BigInt(String(channel['local_balance']));
      // What the funder pays for the commitment is its own.
      const feeSat = isFunder ? BigInt(String(channel['commit_fee'])) : 0n;
      const isAnchors = channel['commitment_type'] === 'ANCHORS';
      return {
        channelId: channelIdOf(fundingTxid, Number(fundingOutputIndex)),
        counterpartyNodeId: String(channel['remote_pubkey']),
        isUsable: channel['active'] === true && inGraph.has(channel['chan_id']),
        isAnnounced: channel['private'] !== true,
        isAnchors,
        capacitySat: BigInt(String(channel['capacity'])),
        balanceMsat: (ownSat + feeSat + (isFunder && isAnchors ? 660n : 0n)) * 1_000n,
        feerateSatPerKw: Number(channel['fee_per_kw'] ?? 0),
        htlcsInFlight: list(channel['pending_htlcs']).length,
        fundingTxid,
        fundingOutputIndex: Number(fundingOutputIndex),
        shortChannelId: BigInt(String(channel['chan_id'] ?? 0)),
      };
    });
  }

  async #knowsEdge(channelId: string): Promise<boolean> {
    try {
      const edge = await this.#rest.call('GET', `/v1/graph/edge/${channelId}`);
      return edge['node1_policy'] !== null && edge['node2_policy'] !== null;
    } catch (error) {
      if (error instanceof PeerError) return false;
      throw error;
    }
  }

  async invoice(options: InvoiceOptions): Promise<{ readonly bolt11: string; readonly paymentHash: string }> {
    if (options.paymentMetadata !== undefined)
      throw new NotApplicable('LND makes no invoices with payment_metadata');
    const common = {
      memo: options.description ?? '',
      ...(options.descriptionHash !== undefined && {
        description_hash: Buffer.from(options.descriptionHash, 'hex').toString('base64'),
      }),
      value_msat: String(options.amountMsat ?? 0n),
      expiry: String(options.expirySeconds ?? 3_600),
      private: true,
    };
    if (options.hold !== 'hold') {
      const made = await this.#rest.call('POST', '/v1/invoices', common);
      return { bolt11: String(made['payment_request']), paymentHash: hexOf(made['r_hash']) };
    }
    const preimage = crypto.getRandomValues(new Uint8Array(32));
    const hash = Buffer.from(await crypto.subtle.digest('SHA-256', preimage));
    this.#held.set(hash.toString('hex'), Buffer.from(preimage).toString('base64'));
    const made = await this.#rest.call('POST', '/v2/invoices/hodl', {
      ...common,
      hash: hash.toString('base64'),
    });
    return { bolt11: String(made['payment_request']), paymentHash: hash.toString('hex') };
  }

  /** Preimages of hold invoices, by hash. */
  readonly #held = new Map<string, string>();

  async isHeld(paymentHash: string): Promise<boolean> {
    const invoice = await this.#rest.call('GET', `/v1/invoice/${paymentHash}`);
    return invoice['state'] === 'ACCEPTED';
  }

  async settle(paymentHash: string): Promise<void> {
    const preimage = this.#held.get(paymentHash);
    if (preimage === undefined) throw new PeerError('no such hold invoice');
    await this.#rest.call('POST', '/v2/invoices/settle', { preimage });
  }

  async cancel(paymentHash: string): Promise<void> {
    await this.#rest.call('POST', '/v2/invoices/cancel', {
      payment_hash: Buffer.from(paymentHash, 'hex').toString('base64'),
    });
  }

  async pay(bolt11: string, amountMsat?: bigint): Promise<PeerPayment> {
    return this.#send({
      payment_request: bolt11,
      ...(amountMsat !== undefined && { amt_msat: String(amountMsat) }),
    });
  }

  async payRaw(payment: RawPayment): Promise<PeerPayment> {
    return this.#send({
      dest: Buffer.from(payment.nodeId, 'hex').toString('base64'),
      amt_msat: String(payment.amountMsat),
      payment_hash: Buffer.from(payment.paymentHash, 'hex').toString('base64'),
      payment_addr: Buffer.from(payment.paymentSecret, 'hex').toString('base64'),
      final_cltv_delta: payment.finalCltvDelta,
      // The node knows no more of the payee: TLV payloads and payment secrets.
      dest_features: [9, 15],
    });
  }

  async payAlong(payment: RoutedPayment): Promise<PeerPayment> {
    const [first] = payment.hops;
    const { channels } = await this.#rest.call('GET', '/v1/channels');
    const channel = list(channels).find((one) => one['remote_pubkey'] === first?.nodeId);
    if (channel === undefined) throw new PeerError('no channel with the first hop');
    const height = Number((await this.#rest.call('GET', '/v1/getinfo'))['block_height']);
    return attemptOutcome(
      await this.#rest.call('POST', '/v2/router/route/send', {
        payment_hash: Buffer.from(payment.paymentHash, 'hex').toString('base64'),
        route: routeJson(payment, String(channel['chan_id']), height),
      }),
    );
  }

  async forgetFailures(): Promise<void> {
    await this.#rest.call('POST', '/v2/router/mc/reset', {});
  }

  async keysend(nodeId: string, amountMsat: bigint): Promise<PeerPayment> {
    const preimage = Buffer.from(crypto.getRandomValues(new Uint8Array(32)));
    const hash = Buffer.from(await crypto.subtle.digest('SHA-256', preimage));
    return this.#send({
      dest: Buffer.from(nodeId, 'hex').toString('base64'),
      amt_msat: String(amountMsat),
      payment_hash: hash.toString('base64'),
      final_cltv_delta: 80,
      dest_custom_records: { '5482373484': preimage.toString('base64') },
    });
  }

  async #send(request: Json): Promise<PeerPayment> {
    const sent = this.#rest.stream('POST', '/v2/router/send', {
      timeout_seconds: 40,
      fee_limit_msat: '100000000',
      no_inflight_updates: true,
      ...request,
    });
    const updates = await sent.catch((error: unknown) => {
      // A restart ends the stream, with or without a word: the payment goes on.
      if (isRefusal(error)) throw error;
      return [];
    });
    const bolt11 = request['payment_request'];
    const last = updates.at(-1) ?? (typeof bolt11 === 'string' ? await this.#track(bolt11) : undefined);
    if (last === undefined) throw new PeerError('the payment has no outcome');
    if (last['status'] === 'SUCCEEDED')
      return {
        status: 'succeeded',
        preimage: String(last['payment_preimage']),
        feeMsat: BigInt(String(last['fee_msat'])),
      };
    const failed = list(last['htlcs']).at(-1)?.['failure'] as Json | undefined;
    return failureOf(failed, String(last['failure_reason']));
  }

  async setTerms(channelId: string, { feeBaseMsat, cltvExpiryDelta }: PeerTerms): Promise<void> {
    const channel = (await this.channels()).find((candidate) => candidate.channelId === channelId);
    if (channel === undefined) throw new PeerError('no such channel');
    await this.#rest.call('POST', '/v1/chanpolicy', {
      chan_point: { funding_txid_str: channel.fundingTxid, output_index: channel.fundingOutputIndex },
      base_fee_msat: String(feeBaseMsat),
      fee_rate_ppm: 1,
      time_lock_delta: cltvExpiryDelta,
    });
  }

  /** The outcome of a payment under which LND was restarted: it goes on, the stream that told of it does not. */
  async #track(bolt11: string): Promise<Json> {
    return until(
      'the payment has an outcome',
      async () => {
        const { payment_hash: hash } = await this.#rest.call('GET', `/v1/payreq/${bolt11}`);
        // LND wants the padding, too.
        const name = `${Buffer.from(String(hash), 'hex').toString('base64url')}=`;
        const updates = await this.#rest.stream('GET', `/v2/router/track/${name}?no_inflight_updates=true`);
        return updates.at(-1);
      },
      CALL_TIMEOUT_MS,
    );
  }

  async close(channelId: string, how: 'cooperative' | 'force', options: CloseOptions = {}): Promise<void> {
    const channel = (await this.channels()).find((candidate) => candidate.channelId === channelId);
    if (channel === undefined) throw new PeerError('no such channel');
    const { feerateSatPerVb, maxFeerateSatPerVb, address } = options;
    const query = new URLSearchParams(
      how === 'force'
        ? { force: 'true' }
        : {
            // Also when HTLCs are pending.
            no_wait: 'true',
            ...(feerateSatPerVb !== undefined && { sat_per_vbyte: String(feerateSatPerVb) }),
            ...(maxFeerateSatPerVb !== undefined && { max_fee_per_vbyte: String(maxFeerateSatPerVb) }),
            ...(address !== undefined && { delivery_address: address }),
          },
    );
    // A stream of updates that stays open: its first line tells that the close is under way.
    await this.#rest.firstLine(
      'DELETE',
      `/v1/channels/${channel.fundingTxid}/${channel.fundingOutputIndex}?${query.toString()}`,
    );
  }

  async pendingCloses(): Promise<readonly { readonly untilHeight: number | undefined }[]> {
    const pending = await this.#rest.call('GET', '/v1/channels/pending');
    const waiting = list(pending['waiting_close_channels']).map(() => ({ untilHeight: undefined }));
    const heightOf = (told: Json): { readonly untilHeight: number | undefined } => {
      const height = Number(told['maturity_height'] ?? 0);
      return { untilHeight: height === 0 ? undefined : height };
    };
    const forced = list(pending['pending_force_closing_channels']).flatMap((channel) => [
      ...(BigInt(String(channel['limbo_balance'] ?? 0)) > BOTH_ANCHORS_SAT ? [heightOf(channel)] : []),
      ...list(channel['pending_htlcs']).map(heightOf),
    ]);
    return [...waiting, ...forced];
  }

  async whileAway(story: () => Promise<void>): Promise<void> {
    await this.#end('SIGTERM');
    await story();
    await this.#start();
  }

  get #snapshotDir(): string {
    return `${this.#options.dataDir}-of-old`;
  }

  async snapshot(): Promise<void> {
    await this.#end('SIGTERM');
    fs.cpSync(this.#options.dataDir, this.#snapshotDir, { recursive: true });
    await this.#start();
  }

  async setBack(): Promise<void> {
    await this.#end('SIGTERM');
    fs.rmSync(this.#options.dataDir, { recursive: true });
    fs.renameSync(this.#snapshotDir, this.#options.dataDir);
    await this.#start();
  }

  async restart(how: 'clean' | 'kill9'): Promise<void> {
    await this.#end(how === 'clean' ? 'SIGTERM' : 'SIGKILL');
    await this.#start();
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#acceptor?.close();
    this.#acceptor = undefined;
    const child = this.#child;
    if (child === undefined || child.exitCode !== null) return;
    this.#rest.reset();
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }
}

/** BOLT 2: the funding txid XOR the output index in its last two bytes. */
export function channelIdOf(fundingTxid: string, outputIndex: number): string {
  const bytes = Buffer.from(fundingTxid, 'hex').reverse();
  bytes[30] = (bytes[30] ?? 0) ^ (outputIndex >> 8);
  bytes[31] = (bytes[31] ?? 0) ^ (outputIndex & 0xff);
  return bytes.toString('hex');
}
