/** A payee behind unannounced channels is found by the hints of its invoice. */
import { FeatureBits } from '@fulmen/codec';
import { expect, test } from 'vitest';
import { Bench, foreignInvoice, keyOf, overPeer, PAYEE, PEER, SCID } from './testing/bench.ts';

const FEATURES = FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' });
const TERMS = { feeBaseMsat: 1, feeProportionalMillionths: 2, cltvExpiryDelta: 40 };

test('the router is asked with all route hints of the invoice', async () => {
  const bench = await new Bench().begin();
  const replica = await bench.replica();
  await replica.openChannel(PEER.nodeId, SCID);
  bench.route = overPeer(PAYEE.nodeId, 77n);
  const hops = [PEER, keyOf('other')].map(({ nodeId }, index) => ({
    nodeId,
    shortChannelId: 77n + BigInt(index),
    ...TERMS,
  }));
  const hints = hops.map((hop) => [hop]);
  const { bolt11 } = foreignInvoice(FEATURES, 50_000n, 1, hints);
  const limits = { amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: undefined };
  await replica.hub.sendPayment({ bolt11, ...limits });
  expect(bench.routeRequests).toMatchObject([
    {
      hints: hops.map(({ nodeId, ...terms }) => ({
        hops: [{ sourceNodeId: Buffer.from(nodeId), ...terms }],
      })),
    },
  ]);
});
