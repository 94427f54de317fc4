import { ConfigError } from '@fulmen/service';
import { expect, test } from 'vitest';
import { consoleConfig } from './config.ts';

const NEEDED = {
  FULMEN_MANAGER_ADDRESSES: 'a:1, b:2',
  FULMEN_CHAIN_ADDRESSES: 'c:3',
  FULMEN_DATABASE_URL: 'postgres://x',
  FULMEN_TOKENS_FILE: 'tokens.jsonl',
};

test('the environment becomes a configuration with bounds', () => {
  const config = consoleConfig(NEEDED);
  expect(config.fleet).toEqual({
    managers: ['a:1', 'b:2'],
    chain: ['c:3'],
    routers: [],
    signers: [],
    gateways: [],
  });
  expect(config.limits.subscribers).toBe(64);
  expect(config.process).toMatchObject({
    listenAddress: '127.0.0.1:9740',
    maxRequestBytes: 65_536,
    tls: undefined,
  });
});

test.each([
  [{ FULMEN_MANAGER_ADDRESSES: '' }, 'FULMEN_MANAGER_ADDRESSES'],
  [{ FULMEN_MANAGER_ADDRESSES: 'nohost' }, 'FULMEN_MANAGER_ADDRESSES'],
  [{ FULMEN_MAX_REQUEST_BYTES: '1' }, 'FULMEN_MAX_REQUEST_BYTES'],
  [{ FULMEN_TOKENS_FILE: undefined }, 'FULMEN_TOKENS_FILE'],
  [{ FULMEN_TLS_CA_FILE: 'ca.pem' }, 'set all or none'],
])('%o is refused by name', (change, name) => {
  expect(() => consoleConfig({ ...NEEDED, ...change })).toThrow(ConfigError);
  expect(() => consoleConfig({ ...NEEDED, ...change })).toThrow(name);
});
