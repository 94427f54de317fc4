/** What is signed for is registered once, exactly. */
import {
  defaultChannelConfig,
  MAX_DUST_EXPOSURE_SAT,
  MAX_FEERATE_SAT_PER_KW,
  MIN_DUST_LIMIT_SAT,
  MIN_FEERATE_SAT_PER_KW,
} from '@fulmen/channel/config';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { describe, expect, test } from 'vitest';
import { registrationOf } from '../testing/channel.ts';
import { PureSigner } from '../testing/pure-signer.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import { registerChannel } from './registration.ts';
import type { ChannelRegistration, PolicyTag } from './types.ts';
import { parties } from './testing/deviations.ts';

describe('registration', () => {
  const original = registrationOf(secp, parties, 'alice');
  const context = new PureSigner(secp, parties).contexts.alice;
  const cases: [string, PolicyTag, Partial<ChannelRegistration>][] = [
    [
      'foreign keys as the holder’s',
      'policy-channel-keys',
      { holder: { ...original.holder, htlcBasepoint: original.counterparty.htlcBasepoint } },
    ],
    [
      'a funding of other keys',
      'policy-channel-keys',
      { funding: { ...original.funding, counterpartyFundingPubkey: original.holder.fundingPubkey } },
    ],
    [
      'itself as the counterparty',
      'policy-channel-counterparty',
      { counterpartyNodeId: parties.alice.keys.nodeId },
    ],
    ['a foreign channel id', 'policy-channel-id', { channelId: new Uint8Array(32) }],
    ['no value', 'policy-channel-value', { funding: { ...original.funding, fundingValueSat: 0n } }],
    [
      'no time to punish',
      'policy-channel-delay-range',
      { holder: { ...original.holder, toSelfDelayBlocks: 1 } },
    ],
    [
      'years to wait',
      'policy-channel-delay-range',
      { counterparty: { ...original.counterparty, toSelfDelayBlocks: 60_000 } },
    ],
    [
      'a dust limit that eats HTLCs',
      'policy-channel-dust-limit',
      { counterparty: { ...original.counterparty, dustLimitSat: 1_000_000n } },
    ],
    [
      'a foreign script to close to',
      'policy-channel-shutdown-script',
      { holder: { ...original.holder, upfrontShutdownScript: parties.bob.walletScript } },
    ],
  ];
  test.each(cases)('refused: %s', (_name, policy, deviation) => {
    const result = registerChannel(context, undefined, { ...original, ...deviation });
    expect(!result.ok && result.error.policy).toBe(policy);
  });

  test.each([
    'fundingPubkey',
    'revocationBasepoint',
    'paymentBasepoint',
    'delayedPaymentBasepoint',
    'htlcBasepoint',
  ] as const)('refused: a counterparty that gives back the holder’s %s', (key) => {
    const counterparty = { ...original.counterparty, [key]: original.holder[key] };
    const funding = { ...original.funding, counterpartyFundingPubkey: counterparty.fundingPubkey };
    const result = registerChannel(context, undefined, { ...original, counterparty, funding });
    expect(!result.ok && result.error).toMatchObject({
      policy: 'policy-channel-keys',
      reason: `counterparty.${key} is the holder’s`,
    });
  });

  test('no limit is narrower than what the channel core puts up with', () => {
    const core = defaultChannelConfig(new Uint8Array(32));
    expect(DEFAULT_LIMITS.minimumFeerateSatPerKw).toBeLessThanOrEqual(MIN_FEERATE_SAT_PER_KW);
    expect(DEFAULT_LIMITS.maximumFeerateSatPerKw).toBeGreaterThanOrEqual(MAX_FEERATE_SAT_PER_KW);
    expect(DEFAULT_LIMITS.maximumDustExposureSat).toBeGreaterThanOrEqual(MAX_DUST_EXPOSURE_SAT);
    expect(DEFAULT_LIMITS.maximumChannelSat).toBeGreaterThanOrEqual(core.maximumFundingSat);
    expect(DEFAULT_LIMITS.minimumDustLimitSat).toBeLessThanOrEqual(MIN_DUST_LIMIT_SAT);
    for (const dustLimitSat of [core.maximumDustLimitAnchorsSat, core.maximumDustLimitSat])
      expect(DEFAULT_LIMITS.maximumDustLimitSat).toBeGreaterThanOrEqual(dustLimitSat);
    expect(DEFAULT_LIMITS.minimumCounterpartyDelayBlocks).toBeLessThanOrEqual(core.toSelfDelayBlocks);
    expect(DEFAULT_LIMITS.maximumHolderDelayBlocks).toBeGreaterThanOrEqual(core.maximumToSelfDelayBlocks);
  });

  test('an identical retry succeeds, any difference is refused', () => {
    const first = registerChannel(context, undefined, original);
    if (!first.ok) throw new RangeError(first.error.policy);
    expect(registerChannel(context, first.value, { ...original })).toEqual(first);
    const other1 = registerChannel(context, first.value, { ...original, announce: false });
    expect(!other1.ok && other1.error.policy).toBe('policy-channel-immutable');
  });

  test('a channel restored from a static backup is frozen, whether it was known or not', () => {
    const restored = registerChannel(context, undefined, original, 'restored');
    if (!restored.ok) throw new RangeError(restored.error.policy);
    expect(restored.value.lock).toEqual({ type: 'frozen' });
    expect(registerChannel(context, restored.value, original, 'restored')).toEqual(restored);
    // Whoever registers it as a new one gets no further than before.
    expect(registerChannel(context, restored.value, original)).toEqual(restored);
    const known = registerChannel(context, undefined, original);
    if (!known.ok) throw new RangeError(known.error.policy);
    const frozen = registerChannel(context, known.value, original, 'restored');
    expect(frozen.ok && frozen.value.lock).toEqual({ type: 'frozen' });
    const closing = { ...known.value, lock: { type: 'closing', commitmentNumber: 3n } } as const;
    expect(registerChannel(context, closing, original, 'restored')).toEqual({ ok: true, value: closing });
  });
});
