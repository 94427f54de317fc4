/** A peer that owes its revoke_and_ack: what is offered meanwhile is sent, and signed by nobody. */
import type { PeerMessage } from '@fulmen/channel';
import { addCommand, ONION, Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import type { Intent } from '@fulmen/store';
import { LoneActor } from './lone-actor.ts';

export const UPSTREAM = { type: 'htlc', channelId: new Uint8Array(32).fill(0xab), htlcId: 9n } as const;
/** A forward that the channel can carry. */
export const INTENT: Intent = {
  source: UPSTREAM,
  sourceShard: 3,
  target: { type: 'scid', shortChannelId: 5n },
  targetShard: 1,
  paymentHash: new Uint8Array(32).fill(3),
  incomingAmountMsat: 10_001_000n,
  incomingCltvExpiryHeight: 672,
  outgoingAmountMsat: 10_000_000n,
  outgoingCltvExpiryHeight: 600,
  onion: ONION,
  sharedSecret: new Uint8Array(32),
  createdUnixMs: 0,
};

/** Alice signed an HTLC, has the fleet's answer, and keeps her revoke_and_ack for it. */
export function owingPeer(): {
  readonly lone: LoneActor;
  readonly pair: Pair;
  readonly revocation: PeerMessage;
} {
  const pair = new Pair(fakeSecp256k1);
  const { alice, bob } = pair;
  alice.must(addCommand(1, 10_000_000n));
  alice.must({ type: 'commit' });
  pair.deliverAll();
  bob.must({ type: 'commit' });
  while (pair.deliver('alice'));
  const [revocation] = alice.outbox.splice(0);
  if (revocation?.type !== 'revoke_and_ack') throw new TypeError('she owes no revoke_and_ack');
  return { lone: new LoneActor(bob), pair, revocation };
}
