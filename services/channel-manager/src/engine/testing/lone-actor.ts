/**
 * The actor of one channel whose host commits everything at once. It has no step to sign: what it asks of the signer
 * beside that is written down, and answered as a test says.
 */
import { type ChannelInput, type ChannelState, type PeerMessage, signerProgress } from '@fulmen/channel';
import type { TestNode } from '@fulmen/channel/testing/node';
import { InternalError } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import { silentLogger } from '@fulmen/service';
import type { CommitUnit, HtlcSource, LoadedChannel, Resolution, Verdict } from '@fulmen/store';
import type { ActorHost } from '../actor-host.ts';
import { ChannelActor } from '../channel-actor.ts';
import type { GrowingForwarding } from '../forwarding.ts';
import { PolicyDefaults } from '../policy.ts';
import type { OtherSignatures } from '../../signing/sign-item.ts';

const GENERATION = 1n;
/** What the signer answers in one call. */
const MAX_POINTS = 16;

export class LoneActor {
  readonly actor: ChannelActor;
  readonly sent: PeerMessage[] = [];
  readonly disconnects: string[] = [];
  readonly quarantines: string[] = [];
  /** Numbers of holder commitments whose points were asked for. */
  readonly askedPoints: bigint[] = [];
  /** Frames that were acknowledged. */
  readonly consumed: bigint[] = [];
  readonly commits: CommitUnit[] = [];
  /** What is waited for; it ends with `elapse`. */
  readonly sleepsMs: number[] = [];
  /** What was handed over to other actors. */
  readonly resolutions: Resolution[] = [];
  /** Intents that are in its hands no more. */
  readonly letGo: HtlcSource[] = [];
  /** What the store answers to the next commits; then that they were made. */
  readonly verdicts: Verdict[] = [];
  /** How often our terms of the channel were to be told. */
  policiesTold = 0;
  /** What the store waits for. */
  committing: Promise<void> = Promise.resolve();
  /** What the replica knows of the chain; `doubt`: why it is not known as it is. */
  readonly chain: { blockHeight: number; blocksUnseen: number; doubt: string | undefined } = {
    blockHeight: 500,
    blocksUnseen: 0,
    doubt: undefined,
  };
  signClosing: OtherSignatures['closing'] = () => Promise.resolve(new Uint8Array(64));
  readonly #work: Promise<void>[] = [];
  #nowMs = 0;
  #sleepers: { readonly untilMs: number; readonly wake: () => void }[] = [];
  #frame = 0n;

  /** The channel of `node`, as if it were loaded and its peer connected. */
  constructor(node: TestNode, outgoing: LoadedChannel['outgoing'] = [], fulfilledLateMsat = 0n) {
    const { channel: state, rows, signer } = node;
    const { chain } = this;
    if (rows === undefined) throw new InternalError('nothing was committed');
    const policy = new PolicyDefaults({
      feeBaseMsat: 0,
      feeProportionalMillionths: 0,
      cltvExpiryDelta: 40,
    });
    const never = new Promise<never>(() => undefined);
    const host = {
      ports: {
        logger: silentLogger,
        secp: node.secp,
        bus: { publish: () => undefined },
        runtime: {
          wallClockMs: () => 0,
          monotonicMs: () => this.#nowMs,
          sleep: (ms: number) => {
            this.sleepsMs.push(ms);
            return new Promise<void>((wake) => this.#sleepers.push({ untilMs: this.#nowMs + ms, wake }));
          },
        },
        signer: {
          getPerCommitmentPoints: ({ commitmentNumbers }: { commitmentNumbers: bigint[] }) => {
            if (commitmentNumbers.length > MAX_POINTS)
              return Promise.reject(new RpcError('invalid_argument', `at most ${MAX_POINTS} points at once`));
            this.askedPoints.push(...commitmentNumbers);
            return Promise.resolve({ points: commitmentNumbers.map((number) => signer.point(number)) });
          },
        },
        committer: {
          submit: async (unit: CommitUnit): Promise<{ verdict: Verdict }> => {
            this.commits.push(unit);
            await this.committing;
            return { verdict: this.verdicts.shift() ?? { type: 'committed' } };
          },
        },
      },
      node: {
        ...node.ctx,
        channelConfig: node.config,
        get blockHeight() {
          return chain.blockHeight;
        },
        chainDoubt: () => chain.doubt,
        blocksUnseen: () => chain.blocksUnseen,
      },
      towers: undefined,
      otherSignatures: (): OtherSignatures => ({
        closing: (message) => this.signClosing(message),
        announcement: () => never,
      }),
      send: (_: ChannelActor, message: PeerMessage) => void this.sent.push(message),
      disconnect: (_: ChannelActor, reason: string) => void this.disconnects.push(reason),
      consumed: (_: ChannelActor, frames: readonly bigint[]) => void this.consumed.push(...frames),
      quarantine: (actor: ChannelActor, reason: string) => {
        this.quarantines.push(reason);
        actor.stop();
      },
      inBackground: (_: string, work: () => Promise<void>) => void this.#work.push(work()),
      deliver: ({ resolutions }: GrowingForwarding) => void this.resolutions.push(...resolutions),
      letGo: (sources: readonly HtlcSource[]) => void this.letGo.push(...sources),
      publishPolicy: () => void (this.policiesTold += 1),
      channelsChanged: () => undefined,
    };
    const channel = {
      version: 1n,
      persisted: rows,
      nextMonitorUpdateId: state.monitor.updateId + 1n,
      outgoing,
      fulfilledLateMsat,
      intentsWritten: [],
      preimages: [],
    } as unknown as LoadedChannel;
    const { holderCommitmentNumber: first } = state.changes;
    this.actor = new ChannelActor(host as unknown as ActorHost, {
      fence: { shard: 1, epoch: 1n, replicaId: 'a' },
      channelKeysId: state.parameters.channelKeysId,
      state,
      policy: policy.initial(1_000_000n, false, 0),
      points: { first, points: [0n, 1n, 2n].map((after) => signer.point(first + after)) },
      loaded: { channel, signer: signerProgress(state) },
    });
    this.actor.adopt(GENERATION);
  }

  get phase(): string {
    const { state }: { readonly state: ChannelState } = this.actor;
    return state.phase.type;
  }

  /** Messages of the peer. */
  receive(...messages: readonly PeerMessage[]): void {
    for (const message of messages)
      this.actor.post({
        kind: 'message',
        input: { type: 'message', message } satisfies ChannelInput,
        generation: GENERATION,
        frame: ++this.#frame,
      });
  }

  /** Time passes; those whose sleep is over go on. */
  async elapse(ms: number): Promise<void> {
    this.#nowMs += ms;
    const isOver = ({ untilMs }: { readonly untilMs: number }) => untilMs <= this.#nowMs;
    const awake = this.#sleepers.filter(isOver);
    this.#sleepers = this.#sleepers.filter((sleeper) => !isOver(sleeper));
    for (const { wake } of awake) wake();
    await Promise.resolve();
  }

  /** Resolves when nothing is under way, in turns or beside them. */
  async idle(): Promise<void> {
    for (;;) {
      await this.actor.idle();
      const work = this.#work.splice(0);
      if (work.length === 0) return;
      await Promise.all(work);
    }
  }
}
