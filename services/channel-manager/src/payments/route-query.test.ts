/** What the router is told of a payment that looks for a route. */
import { FeatureBits } from '@fulmen/codec';
import { encodeFailureMessage } from '@fulmen/onion';
import { beforeEach, expect, test } from 'vitest';
import {
  Bench,
  direct,
  foreignInvoice,
  NO_ROUTE,
  NODE,
  PAYEE,
  PEER,
  type Replica,
  SCID,
} from './testing/bench.ts';

const FEATURES = FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' });
const { bolt11, paymentHash } = foreignInvoice(FEATURES, 50_000n);
const SEND = { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: undefined };

let bench: Bench;
let replica: Replica;
beforeEach(async () => {
  bench = await new Bench().begin();
  replica = await bench.replica();
});

test('who pays: before the node’s first announcement the router knows of nobody that paths must not lead through', async () => {
  await replica.openChannel(PAYEE.nodeId, SCID);
  await replica.hub.sendPayment(SEND);
  expect(bench.routeRequests.map(({ payerNodeId = [] }) => Uint8Array.from(payerNodeId))).toEqual([
    NODE.nodeId,
  ]);
});

test('a channel whose peer asks for more in an HTLC is left out of the next request', async () => {
  await replica.openChannel(PAYEE.nodeId, SCID);
  await replica.openChannel(PEER.nodeId, SCID + 1n);
  bench.route = direct(PAYEE.nodeId);
  await replica.hub.sendPayment(SEND);
  const intent = await replica.attempt();
  await replica.take(intent);
  bench.route = () => NO_ROUTE;
  // As the channel itself refuses what is below the peer's htlc_minimum_msat.
  const failure = encodeFailureMessage({
    kind: 'amount_below_minimum',
    htlcMsat: 50_000n,
    channelUpdate: new Uint8Array(0),
  });
  await replica.end(intent, { type: 'failed_here', failure });
  await replica.poll(paymentHash);
  const avoided = bench.routeRequests.map(({ avoid }) => avoid.map(({ shortChannelId }) => shortChannelId));
  expect(avoided).toEqual([[], [SCID]]);
});
