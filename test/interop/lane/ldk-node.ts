/** LDK's newest release as a peer: crate ldk-node in its own process, behind lines of JSON (peers/ldk-node). */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { FAILURE_CODES } from '@fulmen/onion';
import { until } from '../../e2e/main-job/waiting.ts';
import { guardChild } from '../../e2e/support/guard.ts';
import { freePort } from '../../e2e/support/state.ts';
import type { BitcoindAccess } from './chain.ts';
import { LdkNodeGraph } from './ldk-node-graph.ts';
import { OpenRefused } from './ldk.ts';
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
} from './peer.ts';

const START_TIMEOUT_MS = 60_000;
const CALL_TIMEOUT_MS = 60_000;
/** What it misses in the mempool it finds in a block. */
const SEES_FUNDING_MS = 5_000;
/** A payment may be held over many blocks. */
const PAYMENT_TIMEOUT_MS = 240_000;
const DEFAULT_EXPIRY_SECONDS = 3_600;
/** The funder's two anchors, which LDK does not count as its own. */
const ANCHORS_MSAT = 660_000n;
const PEER_DIR = path.join(import.meta.dirname, '../peers/ldk-node');

type Json = Readonly<Record<string, unknown>>;
interface Info {
  readonly height: number;
  readonly onchainSat: number;
  readonly peers: readonly string[];
}
interface Call {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}
type Child = ChildProcessByStdio<Writable, Readable, null>;

/** The program that get-ldk-node.sh builds; undefined when it was not built. */
export function findLdkNode(): string | undefined {
  const ours = path.join(import.meta.dirname, '../../../.fulmen/peers/ldk-node/bin/ldk-node-peer');
  for (const candidate of [process.env['FULMEN_LDK_NODE'], ours])
    if (candidate !== undefined && candidate !== '' && fs.existsSync(candidate)) return candidate;
  return undefined;
}

/** As its Cargo.lock has it: `ldk-node 0.7.1 (lightning 0.2.7)`. */
export function ldkNodeVersion(): string {
  const lock = fs.readFileSync(path.join(PEER_DIR, 'Cargo.lock'), 'utf8');
  const versionOf = (crate: string): string =>
    new RegExp(`name = "${crate}"\nversion = "([^"]+)"`).exec(lock)?.[1] ?? 'of unknown version';
  return `ldk-node ${versionOf('ldk-node')} (lightning ${versionOf('lightning')})`;
}

export interface LdkNodeOptions {
  readonly name: string;
  readonly binary: string;
  readonly dataDir: string;
  readonly chain: BitcoindAccess;
}

export class LdkNode implements InteropPeer {
  readonly kind = 'ldk-node';
  readonly version = ldkNodeVersion();
  readonly name: string;
  readonly port: number;
  nodeId = '';
  readonly graph = new LdkNodeGraph((method, parameters) => this.#call(method, parameters));
  readonly #options: LdkNodeOptions;
  /** Of every process that was, oldest first. */
  readonly #events: Json[] = [];
  readonly #preimages = new Map<string, string>();
  readonly #ports = new Map<string, number>();
  #format: 'anchors' | 'static_remotekey' = 'anchors';
  #child: Child | undefined;
  #nextId = 1;
  #waiting = new Map<number, Call>();

  private constructor(options: LdkNodeOptions, port: number) {
    this.#options = options;
    this.name = options.name;
    this.port = port;
  }

  static async start(options: LdkNodeOptions): Promise<LdkNode> {
    const peer = new LdkNode(options, await freePort());
    await peer.#start();
    return peer;
  }

  async #start(): Promise<void> {
    const { binary, dataDir, chain, name } = this.#options;
    fs.mkdirSync(dataDir, { recursive: true });
    const log = fs.openSync(path.join(dataDir, 'out.log'), 'a');
    const config = {
      dataDir,
      port: this.port,
      alias: name,
      anchors: this.#format === 'anchors',
      host: chain.host,
      rpcPort: chain.port,
      user: chain.user,
      password: chain.password,
    };
    // Standard input and output are pipes, as asked.
    const child = spawn(binary, [JSON.stringify(config)], { stdio: ['pipe', 'pipe', log] }) as Child;
    fs.closeSync(log);
    guardChild(child, 'TERM');
    this.#child = child;
    const waiting = new Map<number, Call>();
    this.#waiting = waiting;
    const since = this.#events.length;
    createInterface({ input: child.stdout }).on('line', (line) => this.#heard(line, waiting));
    child.stdin.on('error', () => undefined);
    child.once('exit', () => {
      for (const { reject } of waiting.values()) reject(new PeerError(`${name} ended`));
    });
    const ready = await until(
      `${name} is ready`,
      () => {
        if (child.exitCode !== null)
          return Promise.reject(new PeerError(`${name} ended: see ${dataDir}/out.log`));
        return Promise.resolve(this.#events.slice(since).find(({ event }) => event === 'ready'));
      },
      START_TIMEOUT_MS,
    );
    this.nodeId = String(ready['nodeId']);
    // What it was to keep connected is not kept by the program itself.
    for (const [nodeId, port] of this.#ports)
      await this.#call('connect', { nodeId, port }).catch(() => undefined);
  }

  #heard(line: string, waiting: Map<number, Call>): void {
    const said = JSON.parse(line) as Json;
    if ('event' in said) {
      this.#events.push(said);
      return;
    }
    const call = waiting.get(Number(said['id']));
    waiting.delete(Number(said['id']));
    if ('error' in said) call?.reject(new PeerError(`${this.name}: ${String(said['error'])}`));
    else call?.resolve(said['result']);
  }

  async #call(method: string, parameters: Json = {}): Promise<unknown> {
    const child = this.#child;
    if (child === undefined) throw new PeerError(`${this.name} does not run`);
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const written = Object.fromEntries(
      Object.entries(parameters).map(([name, value]) => [
        name,
        typeof value === 'bigint' ? Number(value) : value,
      ]),
    );
    child.stdin.write(`${JSON.stringify({ id, method, ...written })}\n`);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(
        () => reject(new PeerError(`${this.name}: no answer to ${method}`)),
        CALL_TIMEOUT_MS,
      );
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #info(): Promise<Info> {
    return (await this.#call('info')) as Info;
  }

  async sync(): Promise<void> {
    const { chain } = this.#options;
    await until(`${this.name} at the tip`, async () => {
      await this.#call('sync');
      return (await this.#info()).height >= (await chain.height()) ? true : undefined;
    });
  }

  async newAddress(): Promise<string> {
    return String(await this.#call('newAddress'));
  }

  async onchainSat(): Promise<bigint> {
    return BigInt((await this.#info()).onchainSat);
  }

  async connect(nodeId: string, port: number, host = '127.0.0.1'): Promise<void> {
    this.#ports.set(nodeId, port);
    await this.#call('connect', { nodeId, host, port });
  }

  async disconnect(nodeId: string): Promise<void> {
    this.#ports.delete(nodeId);
    await this.#call('disconnect', { nodeId });
  }

  async isConnected(nodeId: string): Promise<boolean> {
    return (await this.#info()).peers.includes(nodeId);
  }

  answerOpens(answer: OpenAnswer): Promise<void> {
    return answer.how === 'accept' && answer.terms === undefined
      ? Promise.resolve()
      : Promise.reject(new NotApplicable('ldk-node answers openings by its configuration alone'));
  }

  async open(options: OpenOptions): Promise<void> {
    const { nodeId, fundingSat, pushMsat, announce, format = 'anchors' } = options;
    if (options.confirmations === 'zero_conf' || options.scidAlias === 'scid_alias')
      throw new NotApplicable('ldk-node chooses the channel type itself');
    if (options.closeAddress !== undefined || options.terms !== undefined)
      throw new NotApplicable('ldk-node’s API has no say in the terms of a channel');
    const port = this.#ports.get(nodeId);
    if (port === undefined) throw new PeerError(`${this.name} was never connected to ${nodeId}`);
    if (format !== this.#format) {
      // It is the node's configuration, not the channel's.
      this.#format = format;
      await this.restart('clean');
      await until(`${this.name} is connected again`, async () =>
        (await this.isConnected(nodeId)) ? true : undefined,
      );
    }
    // Of what comes into the mempool in one second it sees what was there at its first look.
    const second = Math.floor(Date.now() / 1_000);
    await until('another second', async () => (Math.floor(Date.now() / 1_000) > second ? true : undefined));
    const hadSat = await this.onchainSat();
    const before = this.#events.length;
    const userChannelId = await this.#call('openChannel', {
      nodeId,
      port,
      sat: fundingSat,
      ...(pushMsat !== undefined && { pushMsat }),
      announced: announce === 'announced',
    });
    const refusal = await until('the opening has an outcome', async () => {
      const own = this.#events.slice(before).filter((event) => event['userChannelId'] === userChannelId);
      const failed = own.find(({ event }) => event === 'channel_closed');
      if (failed !== undefined) return { text: String(failed['reason']) };
      return own.some(({ event }) => event === 'channel_pending') ? { text: undefined } : undefined;
    });
    if (refusal.text !== undefined) throw new OpenRefused(refusal.text);
    // Its wallet knows that coins are spent only when it finds that in the mempool: until then it would spend them again.
    await until(
      `${this.name} sees its funding`,
      async () => {
        await this.#call('sync');
        return (await this.onchainSat()) < hadSat ? true : undefined;
      },
      SEES_FUNDING_MS,
    ).catch(() => undefined);
  }

  async channels(): Promise<readonly PeerChannel[]> {
    const channels = (await this.#call('listChannels')) as readonly Json[];
    return channels.flatMap((channel): PeerChannel[] =>
      channel['fundingTxid'] === null
        ? []
        : [
            {
              channelId: String(channel['channelId']),
              counterpartyNodeId: String(channel['counterpartyNodeId']),
              isUsable: channel['usable'] === true,
              isAnnounced: channel['announced'] === true,
              // It does not tell a channel's type: channels are of the format that the node was last told to open.
              // Known of the channels that it funds: they are as it asked.
              isAnchors: channel['outbound'] === true ? this.#format === 'anchors' : undefined,
              capacitySat: BigInt(Number(channel['capacitySat'])),
              balanceMsat:
                BigInt(Number(channel['outboundMsat'])) +
                1_000n * BigInt(Number(channel['reserveSat'])) +
                (channel['outbound'] === true && this.#format === 'anchors' ? ANCHORS_MSAT : 0n),
              feerateSatPerKw: Number(channel['feerateSatPerKw']),
              htlcsInFlight: Number(channel['htlcsInFlight']),
              fundingTxid: String(channel['fundingTxid']),
              fundingOutputIndex: Number(channel['fundingIndex']),
              shortChannelId:
                channel['shortChannelId'] === null ? undefined : BigInt(String(channel['shortChannelId'])),
            },
          ],
    );
  }

  async invoice(options: InvoiceOptions): Promise<{ readonly bolt11: string; readonly paymentHash: string }> {
    if (options.paymentMetadata !== undefined)
      throw new NotApplicable('an invoice of ldk-node has no metadata');
    const preimage = options.hold === 'hold' ? randomBytes(32) : undefined;
    const held = preimage && createHash('sha256').update(preimage).digest('hex');
    const made = (await this.#call('invoice', {
      ...(options.amountMsat !== undefined && { amountMsat: options.amountMsat }),
      ...(options.descriptionHash === undefined
        ? { description: options.description ?? '' }
        : { descriptionHash: options.descriptionHash }),
      expirySeconds: options.expirySeconds ?? DEFAULT_EXPIRY_SECONDS,
      ...(held !== undefined && { paymentHash: held }),
    })) as { readonly bolt11: string; readonly paymentHash: string };
    if (preimage !== undefined) this.#preimages.set(made.paymentHash, preimage.toString('hex'));
    return made;
  }

  #claimable(paymentHash: string): Json | undefined {
    return this.#events.find(
      (event) => event['event'] === 'payment_claimable' && event['paymentHash'] === paymentHash,
    );
  }

  isHeld(paymentHash: string): Promise<boolean> {
    return Promise.resolve(this.#claimable(paymentHash) !== undefined);
  }

  async settle(paymentHash: string): Promise<void> {
    const preimage = this.#preimages.get(paymentHash);
    const amountMsat = this.#claimable(paymentHash)?.['amountMsat'];
    if (preimage === undefined || amountMsat === undefined)
      throw new PeerError(`${this.name} does not hold ${paymentHash}`);
    await this.#call('claim', { paymentHash, preimage, amountMsat });
  }

  async cancel(paymentHash: string): Promise<void> {
    await this.#call('fail', { paymentHash });
  }

  async pay(bolt11: string, amountMsat?: bigint): Promise<PeerPayment> {
    return this.#paying('pay', { bolt11, ...(amountMsat !== undefined && { amountMsat }) });
  }

  payRaw(): Promise<PeerPayment> {
    return Promise.reject(new NotApplicable('ldk-node pays invoices and node ids only'));
  }

  payAlong(): Promise<PeerPayment> {
    return Promise.reject(new NotApplicable('ldk-node finds its routes itself'));
  }

  async setTerms(channelId: string, { feeBaseMsat, cltvExpiryDelta }: PeerTerms): Promise<void> {
    await this.#call('setPolicy', {
      channelId,
      baseMsat: feeBaseMsat,
      proportionalMillionths: 0,
      cltvDelta: cltvExpiryDelta,
    });
  }

  /** Its scorer is asked by no later payment of a route that is the only one. */
  forgetFailures(): Promise<void> {
    return Promise.resolve();
  }

  async keysend(nodeId: string, amountMsat: bigint): Promise<PeerPayment> {
    return this.#paying('keysend', { nodeId, amountMsat });
  }

  async #paying(method: string, parameters: Json): Promise<PeerPayment> {
    const before = this.#events.length;
    let paymentId: unknown;
    try {
      paymentId = await this.#call(method, parameters);
    } catch (error) {
      // It says at once what it does not even try.
      if (!(error instanceof PeerError)) throw error;
      return { status: 'failed', failure: error.message, failureHop: 0 };
    }
    return until(
      'the payment has an outcome',
      () => Promise.resolve(this.#outcome(String(paymentId), this.#events.slice(before))),
      PAYMENT_TIMEOUT_MS,
    );
  }

  #outcome(paymentId: string, since: readonly Json[]): PeerPayment | undefined {
    const end = since.find(
      ({ event, paymentId: of }) =>
        of === paymentId && (event === 'payment_sent' || event === 'payment_failed'),
    );
    if (end === undefined) return undefined;
    if (end['event'] === 'payment_sent') {
      const feeMsat = BigInt(Number(end['feeMsat'] ?? 0));
      return { status: 'succeeded', preimage: String(end['preimage']), feeMsat };
    }
    // LDK's event does not carry what the onion said; its log does.
    const said = since.findLast(({ event }) => event === 'onion_error')?.['text'];
    const failure = failureName(String(said ?? '')) ?? String(end['reason']);
    return { status: 'failed', failure, failureHop: undefined };
  }

  async close(channelId: string, how: 'cooperative' | 'force', options: CloseOptions = {}): Promise<void> {
    if (Object.values(options).some((value) => value !== undefined))
      throw new NotApplicable('a close of ldk-node has neither fee nor address');
    await this.#call('closeChannel', { channelId, force: how === 'force' });
  }

  async pendingCloses(): Promise<readonly { readonly untilHeight: number | undefined }[]> {
    const heights = (await this.#call('pendingCloses')) as readonly (number | null)[];
    return heights.map((height) => ({ untilHeight: height ?? undefined }));
  }

  async whileAway(story: () => Promise<void>): Promise<void> {
    await this.#end('clean');
    await story();
    await this.#start();
  }

  get #snapshotDir(): string {
    return `${this.#options.dataDir}-of-old`;
  }

  async snapshot(): Promise<void> {
    await this.#end('clean');
    fs.cpSync(this.#options.dataDir, this.#snapshotDir, { recursive: true });
    await this.#start();
  }

  async setBack(): Promise<void> {
    await this.#end('clean');
    fs.rmSync(this.#options.dataDir, { recursive: true });
    fs.renameSync(this.#snapshotDir, this.#options.dataDir);
    this.#ports.clear();
    await this.#start();
  }

  async restart(how: 'clean' | 'kill9'): Promise<void> {
    await this.#end(how);
    await this.#start();
  }

  async #end(how: 'clean' | 'kill9'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    if (how === 'clean') child.stdin.end();
    else child.kill('SIGKILL');
    await exited;
  }

  async stop(): Promise<void> {
    await this.#end('clean');
  }
}

/** BOLT 4's name of what LDK's log says: `Onion Error[from ID: IncorrectPaymentDetails(0x400f)`. */
function failureName(text: string): string | undefined {
  const code = /\(0x([0-9a-f]+)\)/.exec(text)?.[1];
  if (code === undefined) return undefined;
  const named = Object.entries(FAILURE_CODES).find(([, number]) => number === Number.parseInt(code, 16));
  return named?.[0];
}
