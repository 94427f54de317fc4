import { ConfigError } from '@fulmen/service';
import { describe, expect, test } from 'vitest';
import { readChainMonitorConfig } from './config.ts';

const COMMON = {
  FULMEN_NETWORK: 'regtest',
  FULMEN_DATABASE_URL: 'postgres://localhost/chain',
  FULMEN_SIGNER_ADDRESS: 'signer:1',
};
const BITCOIND = { FULMEN_BITCOIND_ADDRESS: 'bitcoind:18443', FULMEN_BITCOIND_COOKIE: '/cookie' };
const ESPLORA = { FULMEN_ESPLORA_URL: 'https://esplora.example/api' };

describe('the chain source', () => {
  test('is a bitcoind, or an Esplora server', () => {
    expect(readChainMonitorConfig({ ...COMMON, ...BITCOIND }).source).toEqual({
      kind: 'bitcoind',
      rpc: { host: 'bitcoind', port: 18_443, auth: { kind: 'cookie', path: '/cookie' } },
    });
    expect(readChainMonitorConfig({ ...COMMON, ...ESPLORA }).source).toEqual({
      kind: 'esplora',
      config: { url: 'https://esplora.example/api' },
    });
  });

  test.each([
    ['none', {}],
    ['two', { ...BITCOIND, ...ESPLORA }],
    ['an address without a scheme', { FULMEN_ESPLORA_URL: 'esplora.example' }],
    ['a file', { FULMEN_ESPLORA_URL: 'file:///etc/passwd' }],
    ['a bitcoind without a secret', { FULMEN_BITCOIND_ADDRESS: 'bitcoind:18443' }],
  ])('is exactly one, and usable: not %s', (_, source) => {
    expect(() => readChainMonitorConfig({ ...COMMON, ...source })).toThrow(ConfigError);
  });
});

test('what is a fault on a real network is none on regtest, where blocks come on demand', () => {
  expect(readChainMonitorConfig({ ...COMMON, ...ESPLORA }).service).toMatchObject({
    maximumBlockAgeMs: undefined,
    fallbackFeerateSatPerKw: 1_000,
  });
  const mainnet = { ...COMMON, ...ESPLORA, FULMEN_NETWORK: 'mainnet' };
  // Never silently a made-up feerate.
  expect(readChainMonitorConfig(mainnet).service).toMatchObject({
    maximumBlockAgeMs: 10_800_000,
    fallbackFeerateSatPerKw: undefined,
  });
  expect(
    readChainMonitorConfig({
      ...mainnet,
      FULMEN_CHAIN_MAX_BLOCK_AGE_MS: '0',
      FULMEN_FALLBACK_FEERATE_SAT_PER_KW: '2500',
    }).service,
  ).toMatchObject({ maximumBlockAgeMs: undefined, fallbackFeerateSatPerKw: 2_500 });
});
