import { ConfigError } from '@fulmen/service';
import { formatAddress } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import { managerConfig, nodeIdentity } from './config.ts';

const identityOf = (environment: Readonly<Record<string, string>>) =>
  nodeIdentity(
    managerConfig({
      FULMEN_REPLICA_ID: 'a',
      FULMEN_DATABASE_URL: 'postgres://localhost',
      FULMEN_SIGNER_ADDRESS: 'signer:1',
      FULMEN_CHAIN_MONITOR_ADDRESS: 'chain:1',
      FULMEN_ROUTER_ADDRESS: 'router:1',
      FULMEN_NETWORK: 'regtest',
      ...environment,
    }),
  );

describe('what the node says of itself', () => {
  test('is read from the environment', () => {
    const identity = identityOf({
      FULMEN_ALIAS: 'ada ⚡',
      FULMEN_COLOR: '#0102ff',
      FULMEN_PUBLIC_ADDRESSES: '203.0.113.5:9735, [2001:db8::1]:9736, node.example.com:9737',
    });
    expect(identity.alias).toBe('ada ⚡');
    expect([...identity.rgbColor]).toEqual([1, 2, 255]);
    expect(identity.addresses.map(formatAddress)).toEqual([
      '203.0.113.5:9735',
      '[2001:db8:0:0:0:0:0:1]:9736',
      'node.example.com:9737',
    ]);
    expect(identityOf({}).addresses).toEqual([]);
  });

  test.each([
    { FULMEN_ALIAS: '⚡'.repeat(11) },
    { FULMEN_COLOR: 'violet' },
    { FULMEN_PUBLIC_ADDRESSES: 'node.example.com' },
    { FULMEN_PUBLIC_ADDRESSES: '203.0.113.5:0' },
    { FULMEN_PUBLIC_ADDRESSES: 'one.example.com:9735,two.example.com:9735' },
    { FULMEN_PUBLIC_ADDRESSES: Array.from({ length: 17 }, (_, i) => `203.0.113.${i}:9735`).join(',') },
  ])('is refused where it cannot be said: %j', (environment) => {
    expect(() => identityOf(environment)).toThrow(ConfigError);
  });
});
