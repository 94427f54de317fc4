/**
 * What the peers of each case and the fleet said to each other, in plaintext: read from the gateways' wire logs when a
 * case is over, and written to a file for each of its peers (test/replay/conversation.ts has the format). Beside the
 * bytes stands what a replay needs: the fleet's seed, which is drawn for the run and thrown away, the ids of the
 * channels' keys, and the feerates of that moment.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { FeerateEstimates } from '@fulmen/channel';
import { fromHex, toHex } from '@fulmen/codec';
import { ChainServiceService, FeeTarget } from '@fulmen/proto/chain/v1/chain';
import { grpcConnector, TlsIdentity } from '@fulmen/rpc';
import { openMnemonic, readSeedFile } from '@fulmen/signer/seed/seed-file';
import pg from 'pg';
import { FLEET, makeCertificates } from '../../../deploy/certificates/make-certificates.ts';
import type { Fleet } from '../../e2e/support/fleet.ts';
import { defaultStateDir } from '../../e2e/support/state.ts';
import { type Conversation, format, type Line } from '../../replay/conversation.ts';
import type { InteropPeer } from './peer.ts';

/** Older runs are deleted when one begins. */
const KEPT_RUNS = 5;
const GATEWAYS = ['peer-gateway-1', 'peer-gateway-2'];
/** More than any run writes: the files never take turns. */
const MAX_WIRE_LOG_BYTES = 2 ** 36;

/** Where each run of the lane has a folder. */
export const recordingsDir = path.join(defaultStateDir, 'interop');
let runDir: string | undefined;
let recordings = 0;

/** The folder of this process's recordings. */
export function recordingDir(): string {
  if (runDir === undefined) {
    fs.mkdirSync(recordingsDir, { recursive: true });
    for (const old of fs.readdirSync(recordingsDir).toSorted().slice(0, -KEPT_RUNS))
      fs.rmSync(path.join(recordingsDir, old), { recursive: true, force: true });
    runDir = path.join(recordingsDir, `${new Date().toISOString().replaceAll(':', '-')}-${process.pid}`);
    fs.mkdirSync(runDir);
  }
  return runDir;
}

/** Where the gateways of a fleet log what passes, as an addition to their environment. */
export function wireLogEnvironment(stateDir: string): Readonly<Record<string, Record<string, string>>> {
  return Object.fromEntries(
    GATEWAYS.map((name) => [
      name,
      {
        FULMEN_WIRE_LOG_DIRECTORY: wireLogDir(stateDir, name),
        FULMEN_WIRE_LOG_MAX_BYTES: String(MAX_WIRE_LOG_BYTES),
      },
    ]),
  );
}

function wireLogDir(stateDir: string, gateway: string): string {
  return path.join(stateDir, 'wire', gateway);
}

export class Recording {
  readonly #fleet: Fleet;
  readonly #say: (text: string) => void;
  readonly #number: number;
  readonly #offsets = new Map<string, number>();
  #opened: string | undefined;
  #peers: InteropPeer[] = [];
  #caseName = 'before the cases';

  constructor(fleet: Fleet, say: (text: string) => void) {
    this.#fleet = fleet;
    this.#say = say;
    recordings += 1;
    this.#number = recordings;
  }

  /** What follows belongs to this case. */
  beginCase(name: string): void {
    this.#caseName = name;
  }

  /** A peer takes part. */
  peer(peer: InteropPeer): void {
    this.#peers.push(peer);
  }

  /** Messages of a type (BOLT's name) that passed between the fleet and a node since the case began. */
  saidWith(nodeId: string, direction: 'in' | 'out', type: string): readonly Uint8Array[] {
    const wanted = ` ${direction} ${nodeId} ${type} `;
    return GATEWAYS.flatMap((gateway) => {
      const file = path.join(wireLogDir(this.#fleet.stateDir, gateway), 'wire.log');
      if (!fs.existsSync(file)) return [];
      const text = readFrom(file, this.#offsets.get(gateway) ?? 0);
      const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
      return lines
        .filter((line) => line.includes(wanted))
        .map((line) => fromHex(line.slice(line.lastIndexOf(' ') + 1)));
    });
  }

  /** Writes the files of the case that ended. Nothing is lost for the cases when that fails: it is told, and they go on. */
  async endCase(): Promise<void> {
    const peers = this.#peers;
    this.#peers = [];
    try {
      const lines = this.#newLines();
      if (peers.length === 0) return;
      const heard = peers.filter(({ nodeId }) => lines.has(nodeId));
      const shared = { mnemonic: this.#mnemonic(), feerates: await this.#feerates() };
      for (const peer of heard) {
        const nodeId = fromHex(peer.nodeId);
        const conversation: Conversation = {
          caseName: this.#caseName,
          kind: peer.kind,
          version: peer.version,
          counterpartyNodeId: nodeId,
          ...shared,
          channelKeys: await this.#channelKeys(nodeId),
          lines: lines.get(peer.nodeId) ?? [],
        };
        const slug = this.#caseName.replaceAll(/[^a-z0-9]+/gi, '-');
        const file = path.join(recordingDir(), `${slug}--${this.#number}-${peer.name}.txt`);
        fs.writeFileSync(file, format(conversation));
      }
    } catch (error) {
      this.#say(
        `no recording of ${this.#caseName}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  /** Whole lines that the logs gained since the last call, by node id, in the order of time. */
  #newLines(): Map<string, Line[]> {
    const stamped: { readonly at: string; readonly nodeId: string; readonly line: Line }[] = [];
    for (const gateway of GATEWAYS) {
      const file = path.join(wireLogDir(this.#fleet.stateDir, gateway), 'wire.log');
      const offset = this.#offsets.get(gateway) ?? 0;
      if (!fs.existsSync(file)) continue;
      const text = readFrom(file, offset);
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      this.#offsets.set(gateway, offset + whole.length);
      for (const written of whole.split('\n')) {
        const [at = '', direction, nodeId = '', what = '', hex = ''] = written.split(' ');
        if (direction === 'end') stamped.push({ at, nodeId, line: { direction, cause: what } });
        else if (direction === 'in' || direction === 'out')
          stamped.push({ at, nodeId, line: { direction, message: fromHex(hex) } });
      }
    }
    const byPeer = new Map<string, Line[]>();
    // The sort is stable: lines of one gateway keep their order.
    for (const { nodeId, line } of stamped.toSorted((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))) {
      const lines = byPeer.get(nodeId) ?? [];
      lines.push(line);
      byPeer.set(nodeId, lines);
    }
    return byPeer;
  }

  /** Opened once: its key is made to cost time. */
  #mnemonic(): string {
    this.#opened ??= this.#openMnemonic();
    return this.#opened;
  }

  #openMnemonic(): string {
    const { stateDir } = this.#fleet;
    const secrets = JSON.parse(fs.readFileSync(path.join(stateDir, 'secrets.json'), 'utf8')) as {
      readonly seed: string;
    };
    const sealed = readSeedFile(path.join(stateDir, 'signer', 'seed.json'));
    return openMnemonic(sealed, new TextEncoder().encode(secrets.seed));
  }

  async #channelKeys(nodeId: Uint8Array): Promise<ReadonlyMap<string, Uint8Array>> {
    const client = new pg.Client({
      connectionString: await this.#fleet.postgres.ensureDatabase('fulmen_node'),
    });
    await client.connect();
    try {
      const { rows } = await client.query<{ channel_id: Buffer; channel_keys_id: Buffer }>(
        'SELECT channel_id, channel_keys_id FROM manager.channel WHERE counterparty_node_id = $1',
        [Buffer.from(nodeId)],
      );
      return new Map(rows.map((row) => [toHex(row.channel_id), Uint8Array.from(row.channel_keys_id)]));
    } finally {
      await client.end();
    }
  }

  async #feerates(): Promise<FeerateEstimates> {
    const { stateDir } = this.#fleet;
    const ports = JSON.parse(fs.readFileSync(path.join(stateDir, 'ports.json'), 'utf8')) as Readonly<
      Record<string, number>
    >;
    const files = makeCertificates(path.join(stateDir, 'certificates'), FLEET).get('channel-manager');
    if (files === undefined) throw new TypeError('channel-manager has no certificate');
    const connector = grpcConnector({
      tls: new TlsIdentity({
        caCertificate: fs.readFileSync(files.ca),
        certificate: fs.readFileSync(files.certificate),
        privateKey: fs.readFileSync(files.key),
      }),
    });
    try {
      const chain = connector.client(ChainServiceService, `127.0.0.1:${ports['chain-monitor']}`);
      const ask = async (target: FeeTarget): Promise<number> =>
        (await chain.estimateFee({ target }, { deadlineMs: 10_000 })).feerateSatPerKw;
      return {
        minimumAnchorSatPerKw: await ask(FeeTarget.FEE_TARGET_MIN_ALLOWED_ANCHOR_CHANNEL_REMOTE_FEE),
        minimumNonAnchorSatPerKw: await ask(FeeTarget.FEE_TARGET_MIN_ALLOWED_NON_ANCHOR_CHANNEL_REMOTE_FEE),
        maximumSatPerKw: await ask(FeeTarget.FEE_TARGET_MAXIMUM_FEE_ESTIMATE),
        closeMinimumSatPerKw: await ask(FeeTarget.FEE_TARGET_CHANNEL_CLOSE_MINIMUM),
        closeTargetSatPerKw: await ask(FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE),
      };
    } finally {
      connector.close();
    }
  }
}

function readFrom(file: string, offset: number): string {
  const handle = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(Math.max(0, fs.fstatSync(handle).size - offset));
    fs.readSync(handle, bytes, 0, bytes.length, offset);
    return bytes.toString('latin1');
  } finally {
    fs.closeSync(handle);
  }
}
