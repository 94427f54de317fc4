/** LDK as a peer: the wallet of test/ldk-wallet in its own process. */
import { createRequire } from 'node:module';
import { until } from '../../e2e/main-job/waiting.ts';
import { LdkWallet } from '../../ldk-wallet/client.ts';
import type { Handshake } from '../../ldk-wallet/protocol.ts';
import type { BitcoindAccess } from './chain.ts';
import { LdkGraph } from './ldk-graph.ts';
import {
  type CloseOptions,
  type InteropPeer,
  type InvoiceOptions,
  NotApplicable,
  type OpenAnswer,
  type OpenOptions,
  type PeerChannel,
  type PeerPayment,
  type PeerTerms,
  type RawPayment,
  type RoutedPayment,
} from './peer.ts';

/** A payment may be held over many blocks. */
const PAYMENT_TIMEOUT_MS = 240_000;
/** The wallet asks no node for estimates; this is above what a bitcoind learns from the cases. */
const CLOSING_FEERATE_SAT_PER_VB = 25;
const HOLD_CLTV_DELTA = 80;

/** As often as the fleet looks at the chain in this lane. */
const POLL_MS = 250;

export function ldkVersion(): string {
  const require = createRequire(import.meta.url);
  const { version } = require('lightningdevkit/package.json') as { readonly version: string };
  return `ldk ${version} (npm)`;
}

export class Ldk implements InteropPeer {
  readonly kind = 'ldk';
  readonly version = ldkVersion();
  readonly name: string;
  wallet: LdkWallet;
  readonly graph: LdkGraph;
  readonly #chain: BitcoindAccess;

  private constructor(name: string, wallet: LdkWallet, chain: BitcoindAccess) {
    this.name = name;
    this.wallet = wallet;
    this.graph = new LdkGraph(() => this.wallet);
    this.#chain = chain;
  }

  static async start(options: {
    readonly name: string;
    readonly dataDir: string;
    readonly chain: BitcoindAccess;
    readonly handshake?: Handshake;
  }): Promise<Ldk> {
    const { name, dataDir, chain, handshake = {} } = options;
    const chainUrl = `http://${chain.user}:${chain.password}@${chain.host}:${chain.port}`;
    return new Ldk(name, await LdkWallet.start({ dataDir, chainUrl, handshake, pollMs: POLL_MS }), chain);
  }

  get nodeId(): string {
    return this.wallet.nodeId;
  }

  get port(): number {
    return this.wallet.port;
  }

  async sync(): Promise<void> {
    await until(`${this.name} at the tip`, async () => {
      const { heightSynced } = await this.wallet.call('sync');
      return heightSynced >= (await this.#chain.height()) ? true : undefined;
    });
  }

  async newAddress(): Promise<string> {
    return (await this.wallet.call('newAddress')).address;
  }

  async onchainSat(): Promise<bigint> {
    return BigInt((await this.wallet.call('info')).onchainSat);
  }

  async connect(nodeId: string, port: number, host = '127.0.0.1'): Promise<void> {
    await this.wallet.call('connect', { nodeId, host, port });
  }

  async disconnect(nodeId: string): Promise<void> {
    await this.wallet.call('disconnect', { nodeId });
  }

  async isConnected(nodeId: string): Promise<boolean> {
    return (await this.wallet.call('info')).peers.includes(nodeId);
  }

  async open(options: OpenOptions): Promise<void> {
    const { nodeId, fundingSat, pushMsat, announce, format, terms = {}, upfrontShutdown } = options;
    if (options.confirmations === 'zero_conf')
      throw new NotApplicable('LDK 0.1 opens no channel of the type zero-conf');
    if (options.closeAddress !== undefined)
      throw new NotApplicable('LDK promises a script of its own, not one that it is told');
    const { reserveSat, ...handshake } = terms;
    const before = this.wallet.events.length;
    const { temporaryChannelId, userChannelId } = await this.wallet.call('openChannel', {
      nodeId,
      sat: Number(fundingSat),
      ...(pushMsat !== undefined && { pushMsat }),
      announced: announce === 'announced',
      anchors: format !== 'static_remotekey',
      upfrontShutdown: upfrontShutdown !== 'none',
      handshake: {
        ...handshake,
        scidAlias: options.scidAlias === 'scid_alias',
        ...(reserveSat !== undefined && {
          reserveMillionths: Number((reserveSat * 1_000_000n) / fundingSat),
        }),
      },
    });
    const refusal = await until('the opening has an outcome', async () => {
      const since = this.wallet.events.slice(before);
      const failed = since.find(
        (event) => event.event === 'open_failed' && event.temporaryChannelId === temporaryChannelId,
      );
      if (failed?.event === 'open_failed') return { text: failed.text };
      const closed = since.find(
        (event) => event.event === 'channel_closed' && event.channelId === temporaryChannelId,
      );
      if (closed?.event === 'channel_closed') return { text: closed.text };
      return since.some((event) => event.event === 'channel_pending' && event.userChannelId === userChannelId)
        ? { text: undefined }
        : undefined;
    });
    if (refusal.text !== undefined) throw new OpenRefused(refusal.text);
  }

  async answerOpens(answer: OpenAnswer): Promise<void> {
    if (answer.how === 'accept' && answer.terms !== undefined)
      throw new NotApplicable('LDK 0.1 asks the same of every channel that it accepts');
    await this.wallet.call('answerOpens', answer);
  }

  async channels(): Promise<readonly PeerChannel[]> {
    const channels = await this.wallet.call('listChannels');
    return channels.flatMap((channel): PeerChannel[] =>
      channel.fundingTxid === null || channel.fundingIndex === null
        ? []
        : [
            {
              channelId: channel.channelId,
              counterpartyNodeId: channel.counterpartyNodeId,
              isUsable: channel.usable,
              isAnnounced: channel.announced,
              isAnchors: channel.anchors,
              capacitySat: BigInt(channel.capacitySat),
              balanceMsat: channel.outboundMsat + BigInt(channel.reserveSat ?? 0) * 1_000n,
              feerateSatPerKw: channel.feerateSatPerKw ?? 0,
              htlcsInFlight: channel.pendingInboundHtlcs + channel.pendingOutboundHtlcs,
              fundingTxid: channel.fundingTxid,
              fundingOutputIndex: channel.fundingIndex,
              shortChannelId: scidOf(channel.shortChannelId),
            },
          ],
    );
  }

  async invoice(options: InvoiceOptions): Promise<{ readonly bolt11: string; readonly paymentHash: string }> {
    const { bolt11, paymentHash } = await this.wallet.call('createInvoice', {
      ...(options.amountMsat !== undefined && { amountMsat: options.amountMsat }),
      ...(options.description !== undefined && { description: options.description }),
      ...(options.descriptionHash !== undefined && { descriptionHash: options.descriptionHash }),
      ...(options.paymentMetadata !== undefined && { paymentMetadata: options.paymentMetadata }),
      ...(options.expirySeconds !== undefined && { expirySeconds: options.expirySeconds }),
      hold: options.hold === 'hold',
      // LDK fails what nobody claimed 39 blocks before it expires.
      ...(options.hold === 'hold' && { cltvDelta: HOLD_CLTV_DELTA }),
    });
    return { bolt11, paymentHash };
  }

  async isHeld(paymentHash: string): Promise<boolean> {
    return this.wallet.events.some(
      (event) => event.event === 'payment_claimable' && event.paymentHash === paymentHash,
    );
  }

  async settle(paymentHash: string): Promise<void> {
    await this.wallet.call('claim', { paymentHash });
  }

  async cancel(paymentHash: string): Promise<void> {
    await this.wallet.call('failPayment', { paymentHash });
  }

  async pay(bolt11: string, amountMsat?: bigint): Promise<PeerPayment> {
    const { paymentId } = await this.wallet.call('pay', {
      bolt11,
      attempts: 3,
      ...(amountMsat !== undefined && { amountMsat }),
    });
    return this.#outcome(paymentId);
  }

  async payRaw(payment: RawPayment): Promise<PeerPayment> {
    const { paymentId } = await this.wallet.call('payRaw', {
      hops: [{ nodeId: payment.nodeId, feeMsat: payment.amountMsat, cltvDelta: payment.finalCltvDelta }],
      paymentHash: payment.paymentHash,
      paymentSecret: payment.paymentSecret,
    });
    return this.#outcome(paymentId);
  }

  async payAlong(payment: RoutedPayment): Promise<PeerPayment> {
    if (payment.short !== undefined || payment.extraTlv !== undefined)
      throw new NotApplicable('LDK makes onion and HTLC of one and the same route');
    if (payment.totalMsat !== undefined)
      throw new NotApplicable('LDK tells the payee the sum of the parts that it sends');
    const { paymentId } = await this.wallet.call('payRaw', {
      hops: payment.hops.map((hop, index) => ({
        nodeId: hop.nodeId,
        feeMsat: hop.feeMsat,
        // LDK counts the payee's blocks from the next one.
        cltvDelta: index === payment.hops.length - 1 ? hop.cltvDelta - 1 : hop.cltvDelta,
        ...(hop.shortChannelId !== undefined && { shortChannelId: hop.shortChannelId.toString() }),
      })),
      paymentHash: payment.paymentHash,
      paymentSecret: payment.paymentSecret,
    });
    return this.#outcome(
      paymentId,
      payment.hops.map(({ nodeId }) => nodeId),
    );
  }

  /** Its scorer is asked by no later payment of a route that is the only one. */
  forgetFailures(): Promise<void> {
    return Promise.resolve();
  }

  async keysend(nodeId: string, amountMsat: bigint): Promise<PeerPayment> {
    // LDK lets its user choose; its own least, 24 blocks, is less than what a node that force-closes in time needs.
    const { paymentId } = await this.wallet.call('keysend', { nodeId, amountMsat, cltvDelta: 80 });
    return this.#outcome(paymentId);
  }

  /** @param hops of a route that is known: which of them a failure came from. */
  async #outcome(paymentId: string, hops: readonly string[] = []): Promise<PeerPayment> {
    return until(
      'the payment has an outcome',
      async () => {
        for (const event of this.wallet.events) {
          if (event.event === 'payment_sent' && event.paymentId === paymentId)
            return {
              status: 'succeeded' as const,
              preimage: event.preimage,
              feeMsat: event.feePaidMsat ?? 0n,
            };
          if (event.event !== 'payment_failed' || event.paymentId !== paymentId) continue;
          const path = this.wallet.events.findLast(
            (one) => one.event === 'payment_path_failed' && one.paymentId === paymentId,
          );
          const told = path?.event === 'payment_path_failed' ? path : undefined;
          const hop = hops.indexOf(told?.failureFrom ?? '') + 1;
          return {
            status: 'failed' as const,
            failure: told?.failure ?? event.reason,
            failureHop: hop === 0 ? undefined : hop,
          };
        }
        return undefined;
      },
      PAYMENT_TIMEOUT_MS,
    );
  }

  async setTerms(channelId: string, { feeBaseMsat, cltvExpiryDelta }: PeerTerms): Promise<void> {
    await this.wallet.call('setTerms', {
      channelId,
      feeBaseMsat: BigInt(feeBaseMsat),
      cltvDelta: cltvExpiryDelta,
    });
  }

  async close(channelId: string, how: 'cooperative' | 'force', options: CloseOptions = {}): Promise<void> {
    const { feerateSatPerVb = CLOSING_FEERATE_SAT_PER_VB, maxFeerateSatPerVb, address } = options;
    if (maxFeerateSatPerVb !== undefined) throw new NotApplicable('a close of LDK has no highest feerate');
    await this.wallet.call('closeChannel', {
      channelId,
      force: how === 'force',
      feerateSatPerKw: feerateSatPerVb * 250,
      ...(address !== undefined && { address }),
    });
  }

  async pendingCloses(): Promise<readonly { readonly untilHeight: number | undefined }[]> {
    const { claimable } = await this.wallet.call('balances');
    return claimable.map(({ height }) => ({ untilHeight: height ?? undefined }));
  }

  async whileAway(story: () => Promise<void>): Promise<void> {
    await this.wallet.stop();
    await story();
    await this.wallet.start();
  }

  get #snapshotDir(): string {
    return `${this.wallet.options.dataDir}-of-old`;
  }

  async snapshot(): Promise<void> {
    await this.wallet.call('snapshot', { dir: this.#snapshotDir });
  }

  async setBack(): Promise<void> {
    await this.wallet.stop();
    this.wallet = await LdkWallet.start({
      ...this.wallet.options,
      dataDir: this.#snapshotDir,
      offline: true,
    });
  }

  async restart(how: 'clean' | 'kill9'): Promise<void> {
    if (how === 'clean') await this.wallet.stop();
    else await this.wallet.kill9();
    await this.wallet.start();
  }

  async stop(): Promise<void> {
    await this.wallet.stop();
  }
}

/** The opening came to nothing; the message is what was said. */
export class OpenRefused extends Error {
  override readonly name = 'OpenRefused';
}

/** `block x transaction x output` as a number. */
function scidOf(text: string | null): bigint | undefined {
  const parts = text?.split('x').map(BigInt);
  if (parts === undefined) return undefined;
  const [block = 0n, tx = 0n, output = 0n] = parts;
  return (block << 40n) | (tx << 16n) | output;
}
