// Each bound on the terms of an opening by itself: of what is proposed, exactly one thing is out of it.
import type { MessageOf } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { ChannelConfig } from '../config.ts';
import { MAX_MONEY_SAT } from '../config.ts';
import type { ChannelError } from '../errors.ts';
import { receive, take } from '../testing/expect.ts';
import { FEATURES } from '../testing/node.ts';
import { accepted, opened } from '../testing/opening.ts';
import { encodeChannelType } from './channel-type.ts';
import type { AcceptRequest } from './fundee.ts';

type Open = MessageOf<'open_channel'>;
type Accept = MessageOf<'accept_channel'>;

const base = opened().message;
const LARGE = { features: { ...FEATURES, largeChannels: true } };
const ZERO_CONF = {
  commitmentFormat: 'anchors',
  scidAlias: 'real_scid',
  confirmations: 'zero_conf',
} as const;
const BYTES_31 = new Uint8Array(31);

describe('open_channel', () => {
  test.each<[string, Partial<Open>, Partial<AcceptRequest>, Partial<ChannelConfig>]>([
    ['option_dual_fund was negotiated', {}, { features: { ...FEATURES, dualFund: true } }, {}],
    ['channel_type is not suitable', {}, { features: { ...FEATURES, anchors: false } }, {}],
    [
      'zero-conf is not accepted',
      { tlvs: { ...base.tlvs, channelType: encodeChannelType(ZERO_CONF) } },
      { aliasScid: 1n },
      {},
    ],
    ['funding_satoshis is too large', { fundingSatoshis: MAX_MONEY_SAT + 1n }, LARGE, {}],
    ['funding_satoshis is too large', {}, {}, { maximumFundingSat: 999_999n }],
    [
      'funding_satoshis is too large',
      { fundingSatoshis: MAX_MONEY_SAT + 1n },
      LARGE,
      { maximumFundingSat: 2n * MAX_MONEY_SAT },
    ],
    ['funding_satoshis is too small', {}, {}, { minimumFundingSat: 1_000_001n }],
    ['channel_reserve_satoshis is not below the funding', { channelReserveSatoshis: 1_000_000n }, {}, {}],
    ['max_accepted_htlcs is too small', { maxAcceptedHtlcs: 0 }, {}, {}],
    ['max_htlc_value_in_flight_msat is too small', {}, {}, { minimumInFlightMsat: 1_000_000_001n }],
    ['htlc_minimum_msat is too large', { htlcMinimumMsat: 2_001n }, {}, { maximumHtlcMinimumMsat: 2_000n }],
    ['htlc_minimum_msat is too large', { htlcMinimumMsat: 1_000_000_000n }, {}, {}],
  ])('is refused: %s', (text, changes, request, config) => {
    expect(accepted({ ...base, ...changes }, request, { config }).text).toBe(`open_channel: ${text}`);
  });

  test('is taken at each of these bounds', () => {
    const config = {
      maximumFundingSat: 1_000_000n,
      minimumFundingSat: 1_000_000n,
      minimumInFlightMsat: 1_000_000_000n,
      maximumHtlcMinimumMsat: 2_000n,
    };
    const changes = {
      channelReserveSatoshis: 999_999n,
      dustLimitSatoshis: 10_000n,
      maxAcceptedHtlcs: 1,
      htlcMinimumMsat: 2_000n,
      toSelfDelay: 2_016,
    };
    expect(accepted({ ...base, ...changes }, {}, { config }).text).toBeUndefined();
  });

  test('may ask for an alias alone, of a channel that nobody announces', () => {
    const channelType = encodeChannelType({
      ...ZERO_CONF,
      scidAlias: 'scid_alias',
      confirmations: 'confirmed',
    });
    const message = { ...base, tlvs: { ...base.tlvs, channelType } };
    expect(accepted(message, { aliasScid: 1n }).text).toBeUndefined();
    expect(
      opened({ channelType: { ...ZERO_CONF, scidAlias: 'scid_alias', confirmations: 'confirmed' } }).code,
    ).toBe(undefined);
    expect(accepted({ ...message, channelFlags: 1 }, { aliasScid: 1n }).text).toBe(
      'open_channel: scid_alias for a public channel',
    );
  });

  /** At 253 sat/kW the first commitment costs 284 sat, and the anchors 660 sat; each side asks a reserve of 1,000 sat. */
  const COST_SAT = 944n;
  test.each([
    ['the fee is paid', 100_000n, 100_000n - COST_SAT, undefined],
    [
      'the fee is not paid',
      100_000n,
      100_001n - COST_SAT,
      'the funder cannot pay the fee of the first commitment',
    ],
    ['the funder has its reserve and no more', COST_SAT + 1_000n, 0n, 'neither side is above its reserve'],
    ['the funder has more than its reserve', COST_SAT + 1_001n, 0n, undefined],
    ['the fundee has no more, either', COST_SAT + 2_000n, 1_000n, 'neither side is above its reserve'],
    ['the fundee has more than its reserve', COST_SAT + 2_001n, 1_001n, undefined],
  ])('is judged by what each side has: %s', (_, fundingSatoshis, pushSat, text) => {
    const amounts = { fundingSatoshis, pushMsat: pushSat * 1_000n, feeratePerKw: 253 };
    expect(accepted({ ...base, ...amounts, channelReserveSatoshis: 1_000n }).text).toBe(
      text && `open_channel: ${text}`,
    );
  });
});

describe('the holder’s own opening', () => {
  test.each<[string, Parameters<typeof opened>[0]]>([
    ['invalid_open', { channelType: ZERO_CONF }],
    ['invalid_open', { pushMsat: -1n }],
    ['shutdown_script', { shutdownScript: new Uint8Array(25) }],
    ['feerate_out_of_range', { feerateSatPerKw: 252 }],
    ['feerate_out_of_range', { feerateSatPerKw: 50_001 }],
  ])('is refused: %s', (code, request) => {
    expect(opened(request).code).toBe(code);
  });

  test('has an outpoint that funding_created can carry, once it is asked for', () => {
    const { node, message } = opened();
    const created = (fundingTxid: Uint8Array, fundingOutputIndex: number) =>
      node.input({ type: 'funding_transaction_created', fundingTxid, fundingOutputIndex })?.code;
    const txid = new Uint8Array(32).fill(3);
    expect(created(txid, 0)).toBe('invalid_command');
    expect(receive(node, take(accepted(message).node, 'accept_channel'))).toBeUndefined();
    expect([created(txid, -1), created(txid, 0x1_0000), created(txid, 0.5), created(BYTES_31, 0)]).toEqual(
      Array.from({ length: 4 }, () => 'invalid_command'),
    );
    expect(created(txid, 0xffff)).toBeUndefined();
  });
});

describe('the holder’s acceptance', () => {
  test('needs a script that shutdown may carry, and an alias where nothing is confirmed', () => {
    expect(accepted(base, { shutdownScript: new Uint8Array(25) }).text).toBe(
      'no script that shutdown may carry',
    );
    const message = { ...base, tlvs: { ...base.tlvs, channelType: encodeChannelType(ZERO_CONF) } };
    expect(accepted(message, { zeroConf: 'trusted' }).text).toBe('zero-conf needs an alias');
    expect(accepted(message, { zeroConf: 'trusted', aliasScid: 2n }).text).toBeUndefined();
  });
});

describe('accept_channel', () => {
  /** Of a channel for which alice asks a reserve of 1,000 sat. */
  function answered(
    change: (message: Accept, open: Open) => Partial<Accept>,
    ...[request, { config = {} } = {}]: Parameters<typeof opened>
  ): ChannelError | undefined {
    const { node, message } = opened({ fundingSat: 100_000n, ...request }, { config });
    const accept = take(accepted(message, { aliasScid: 2n, zeroConf: 'trusted' }).node, 'accept_channel');
    return receive(node, { ...accept, ...change(accept, message) });
  }
  const refused = (text: string) => ({
    code: 'invalid_accept',
    reaction: 'fail_channel',
    message: `accept_channel: ${text}`,
  });

  test('is refused for a reserve below the dust limit of its receiver', () => {
    const reserve = (channelReserveSatoshis: bigint) =>
      answered(() => ({ channelReserveSatoshis }), {}, { config: { dustLimitSat: 600n } });
    expect(reserve(599n)).toEqual(refused('channel_reserve_satoshis is below our dust limit'));
    expect(reserve(600n)).toBeUndefined();
  });

  test('is refused for a dust limit above the reserve that its receiver asks for', () => {
    const dust = (dustLimitSatoshis: bigint) =>
      answered(() => ({ dustLimitSatoshis, channelReserveSatoshis: 2_000n }));
    expect(dust(1_001n)).toEqual(refused('dust_limit_satoshis is above the reserve we ask for'));
    expect(dust(1_000n)).toBeUndefined();
  });

  test('is refused for a depth that takes longer than a day', () => {
    const depth = (minimumDepth: number) => answered(() => ({ minimumDepth }));
    expect(depth(145)).toEqual(refused('minimum_depth is unreasonably large'));
    expect(depth(144)).toBeUndefined();
  });

  test('of a channel without confirmations is refused for any depth', () => {
    const depth = (minimumDepth: number) =>
      answered(() => ({ minimumDepth }), {
        aliasScid: 1n,
        channelType: ZERO_CONF,
      });
    expect(depth(1)).toEqual(refused('minimum_depth of a zero-conf channel is not 0'));
    expect(depth(0)).toBeUndefined();
  });

  test.each([
    'fundingPubkey',
    'revocationBasepoint',
    'paymentBasepoint',
    'delayedPaymentBasepoint',
    'htlcBasepoint',
  ] as const)('is refused when it gives back the %s of open_channel', (key) => {
    expect(answered((_, open) => ({ [key]: open[key] }))).toEqual(refused('a public key is one of ours'));
  });
});
