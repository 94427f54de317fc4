/** Openings that one side refuses, and how the other hears of it. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable, type PeerKind } from '../peer.ts';
import { FLEET_MINIMUM_CHANNEL_SAT, type Opening, type World } from '../world.ts';

const group = 'open';

const FUNDING_SAT = 1_000_000n;
/** The fleet takes 2,016 blocks at most. */
const LONG_DELAY_BLOCKS = 5_000;
/** The fleet puts up with 144. */
const GREAT_DEPTH = 200;
const PEER_MINIMUM_SAT = 100_000n;
const PEER_MAXIMUM_SAT = 10_000_000n;
/** Of one peer, that are not confirmed; LDK's and the fleet's own bound. */
const MAX_PENDING = 4;

interface Refusal {
  readonly opening: Opening;
  /** The refusal names the parameter. */
  readonly words: RegExp;
}

/** What was said, or that it went through. @throws NotApplicable when the peer cannot ask for it */
async function heard(opening: Promise<unknown>): Promise<string> {
  return opening.then(
    () => 'it was opened',
    (error: unknown) => {
      if (error instanceof NotApplicable) throw error;
      return String(error);
    },
  );
}

async function openByPeer(world: World, peer: InteropPeer, opening: Opening): Promise<void> {
  const { shutdownScript: _, ...asked } = opening;
  await peer.open({ fundingSat: FUNDING_SAT, pushMsat: 0n, ...asked, nodeId: world.nodeId });
}

/** Nothing is left of the refused, on either side, and a good opening works. */
async function ensureUnharmed(world: World, peer: InteropPeer, by: 'peer' | 'fleet'): Promise<void> {
  const left = await world.fleetChannels(peer);
  ensure(left.length === 0, `the fleet still has ${left.map(({ phase }) => phase).join(', ')}`);
  await world.open(peer, by, { fundingSat: FUNDING_SAT, pushMsat: 300_000_000n });
  await world.agree(peer);
}

function refusedByFleet(name: string, refusals: (kind: PeerKind) => readonly Refusal[]): Case {
  return {
    group,
    name: `by the peer, refused by the fleet by name: ${name}`,
    over: 'peers',
    run: async (world, kind) => {
      const cases = refusals(kind);
      const peer = await world.peer(kind);
      await world.connect(peer);
      for (const { opening, words } of cases) {
        const said = await heard(openByPeer(world, peer, opening));
        ensure(words.test(said), `the peer heard: ${said}`);
      }
      await ensureUnharmed(world, peer, 'peer');
    },
  };
}

/** What the fleet's wallet holds back for openings and payments. */
async function reservedSat(world: World): Promise<bigint> {
  return (await world.node.onchain.getBalance({}, world.node.auth())).reservedSat;
}

async function refusedByPeer(world: World, peer: InteropPeer, refusals: readonly Refusal[]): Promise<void> {
  const before = await reservedSat(world);
  for (const { opening, words } of refusals) {
    const said = await heard(
      world.openByFleet(peer, { ...opening, fundingSat: opening.fundingSat ?? FUNDING_SAT }),
    );
    ensure(words.test(said), `OpenChannel said: ${said}`);
    const after = await reservedSat(world);
    ensure(after === before, `${after - before} sat stay reserved after ${said}`);
  }
}

/** @throws NotApplicable for a peer whose terms are fixed */
function requireTerms(kind: PeerKind): void {
  if (kind === 'ldk-node') throw new NotApplicable('ldk-node’s API has no say in the terms of a channel');
}

const OTHERS_LIMITS: Case = {
  group,
  name: 'by the fleet, refused in the peer’s words: too small, too large, a push, no wish',
  over: 'peers',
  run: async (world, kind) => {
    requireTerms(kind);
    const peer = await world.peer(
      kind,
      ['--rejectpush', `--minchansize=${PEER_MINIMUM_SAT}`, `--maxchansize=${PEER_MAXIMUM_SAT}`],
      {
        handshake: { minFundingSat: Number(PEER_MINIMUM_SAT), maxFundingSat: Number(PEER_MAXIMUM_SAT) },
      },
    );
    await world.connect(peer);
    const isLnd = kind === 'lnd';
    await refusedByPeer(world, peer, [
      {
        opening: { fundingSat: PEER_MINIMUM_SAT / 2n },
        words: isLnd ? /below min chan size/ : /[Ff]unding satoshis|funding_satoshis/,
      },
      {
        opening: { fundingSat: PEER_MAXIMUM_SAT * 2n },
        words: isLnd ? /exceeds maximum chan size/ : /[Ff]unding|funding_satoshis/,
      },
      // LDK takes any push: it is a gift.
      ...(isLnd ? [{ opening: { pushMsat: 1_000_000n }, words: /push/ }] : []),
    ]);
    const text = 'no channels with strangers on a Thursday';
    await peer.answerOpens({ how: 'refuse', text });
    await refusedByPeer(world, peer, [{ opening: {}, words: new RegExp(text) }]);
    await peer.answerOpens({ how: 'accept' });
    await refusedByPeer(world, peer, []);
    const left = await world.fleetChannels(peer);
    ensure(left.length === 0, `the fleet still has ${left.map(({ phase }) => phase).join(', ')}`);
    await world.open(peer, 'fleet', { fundingSat: FUNDING_SAT, pushMsat: 0n });
  },
};

const BAD_ANSWERS: Case = {
  group,
  name: 'by the fleet, which refuses what the peer asks for: to_self_delay, minimum_depth',
  over: 'peers',
  run: async (world, kind) => {
    requireTerms(kind);
    if (kind === 'lnd') {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await peer.answerOpens({ how: 'accept', terms: { toSelfDelayBlocks: LONG_DELAY_BLOCKS } });
      await refusedByPeer(world, peer, [{ opening: {}, words: /to_self_delay/ }]);
      await peer.answerOpens({ how: 'accept', terms: { minimumDepth: GREAT_DEPTH } });
      await refusedByPeer(world, peer, [{ opening: {}, words: /minimum_depth/ }]);
      await peer.answerOpens({ how: 'accept' });
      await ensureUnharmed(world, peer, 'fleet');
      return;
    }
    // LDK asks the same of everybody.
    for (const [handshake, words] of [
      [{ toSelfDelayBlocks: LONG_DELAY_BLOCKS }, /to_self_delay/],
      [{ minimumDepth: GREAT_DEPTH }, /minimum_depth/],
    ] as const) {
      const peer = await world.peer(kind, [], { handshake });
      await world.connect(peer);
      await refusedByPeer(world, peer, [{ opening: {}, words }]);
    }
  },
};

const PENDING_OF_PEER: Case = {
  group,
  name: 'by the peer, one more than the fleet lets wait for confirmations',
  over: 'peers',
  run: async (world, kind) => {
    const peer = await world.peer(kind);
    await world.connect(peer);
    // A coin for each: not every wallet spends what is not confirmed.
    const hadSat = await peer.onchainSat();
    for (let i = 0; i < MAX_PENDING; i += 1)
      await world.chain.fund(await peer.newAddress(), 2n * FUNDING_SAT);
    await world.mine(1);
    const wantedSat = hadSat + BigInt(MAX_PENDING) * 2n * FUNDING_SAT;
    await until('the peer has its coins', async () =>
      (await peer.onchainSat()) >= wantedSat ? true : undefined,
    );
    for (let i = 0; i < MAX_PENDING; i += 1)
      await world.startOpening(peer, 'peer', { fundingSat: FUNDING_SAT, pushMsat: 0n });
    const said = await heard(openByPeer(world, peer, {}));
    ensure(/not confirmed yet/.test(said), `the peer heard: ${said}`);
    await world.mine(6);
    await world.usable(peer);
    await world.open(peer, 'peer', { fundingSat: FUNDING_SAT, pushMsat: 0n });
  },
};

const PENDING_OF_FLEET: Case = {
  group,
  name: 'by the fleet, one more than the peer lets wait for confirmations',
  over: 'peers',
  run: async (world, kind) => {
    const most = kind === 'lnd' ? 1 : MAX_PENDING;
    const peer = await world.peer(kind, [`--maxpendingchannels=${most}`]);
    await world.connect(peer);
    for (let i = 0; i < most; i += 1)
      await world.startOpening(peer, 'fleet', { fundingSat: FUNDING_SAT, pushMsat: 0n });
    await refusedByPeer(world, peer, [
      { opening: {}, words: kind === 'lnd' ? /[Nn]umber of pending channels/ : /unfunded channels/ },
    ]);
    await world.mine(6);
    await world.usable(peer);
    await world.open(peer, 'fleet', { fundingSat: FUNDING_SAT, pushMsat: 0n });
  },
};

const TOO_LARGE: Case = {
  group,
  name: 'above 2^24 sat with a peer that has no option_support_large_channel, by either side',
  over: 'peers',
  run: async (world, kind) => {
    if (kind !== 'lnd') throw new NotApplicable('LDK always has option_support_large_channel');
    const peer = await world.peer(kind, [], { largeChannels: 'unknown' });
    await world.connect(peer);
    const fundingSat = 1n << 24n;
    await refusedByPeer(world, peer, [{ opening: { fundingSat }, words: /option_support_large_channel/ }]);
    const said = await heard(openByPeer(world, peer, { fundingSat }));
    ensure(/too large/.test(said), `the peer says: ${said}`);
    await ensureUnharmed(world, peer, 'fleet');
  },
};

const ALIASES = ['--protocol.option-scid-alias', '--protocol.zero-conf'];

const NOT_TRUSTED: Case = {
  group,
  name: 'by the peer, zero-conf, which the fleet does not trust',
  over: 'peers',
  run: async (world, kind) => {
    const peer = await world.peer(kind, ALIASES);
    await world.connect(peer);
    const said = await heard(openByPeer(world, peer, { confirmations: 'zero_conf' }));
    ensure(/zero-conf is not accepted/.test(said), `the peer heard: ${said}`);
    await ensureUnharmed(world, peer, 'peer');
  },
};

const FLEET_NOT_TRUSTED: Case = {
  group,
  name: 'by the fleet, zero-conf, by which the peer does not trust it',
  over: 'peers',
  run: async (world, kind) => {
    const peer = await world.peer(kind, ALIASES);
    await world.connect(peer);
    await refusedByPeer(world, peer, [
      {
        opening: { confirmations: 'zero_conf' },
        // LND keeps the reason to its log.
        words:
          kind === 'lnd' ? /channel rejected|funding failed due to internal error/ : /[Zz]ero confirmation/,
      },
    ]);
    await ensureUnharmed(world, peer, 'fleet');
  },
};

export const REFUSE_CASES: readonly Case[] = [
  refusedByFleet('funding_satoshis, to_self_delay, htlc_minimum_msat', (kind) => [
    { opening: { fundingSat: FLEET_MINIMUM_CHANNEL_SAT - 5_000n }, words: /funding_satoshis is too small/ },
    {
      opening: { terms: { toSelfDelayBlocks: LONG_DELAY_BLOCKS } },
      // LND's own bound is the fleet's.
      words: kind === 'lnd' ? /CSV delay too large/ : /to_self_delay is unreasonably large/,
    },
    {
      opening: { terms: { htlcMinimumMsat: FUNDING_SAT * 1_000n } },
      // LND refuses to ask for it.
      words: kind === 'lnd' ? /minimum HTLC value is too large/ : /htlc_minimum_msat is too large/,
    },
  ]),
  refusedByFleet('channel_reserve_satoshis, max_accepted_htlcs', (kind) => {
    if (kind === 'lnd')
      throw new NotApplicable('LND refuses by itself to ask for a fifth or more, and for no HTLCs at all');
    return [
      {
        opening: { terms: { reserveSat: FUNDING_SAT } },
        words: /channel_reserve_satoshis is not below the funding/,
      },
      { opening: { terms: { maxAcceptedHtlcs: 0 } }, words: /max_accepted_htlcs is too small/ },
    ];
  }),
  NOT_TRUSTED,
  PENDING_OF_PEER,
  OTHERS_LIMITS,
  BAD_ANSWERS,
  PENDING_OF_FLEET,
  TOO_LARGE,
  FLEET_NOT_TRUSTED,
];
