import { ConfigError } from '@fulmen/service';
import { expect, test } from 'vitest';
import { gatewayConfig, signerIdentity } from './config.ts';

const environment = {
  FULMEN_GATEWAY_ID: 'gateway-0',
  FULMEN_NETWORK: 'regtest',
  FULMEN_LIGHTNING_LISTEN_ADDRESS: '[::]:9735',
  FULMEN_MANAGER_ADDRESSES: 'a:1,b:2,a:1',
  FULMEN_SIGNER_ADDRESS: 'signer:3',
};

test('reads the environment', () => {
  expect(gatewayConfig({ ...environment, FULMEN_MAX_CONNECTIONS: '7' })).toMatchObject({
    gatewayId: 'gateway-0',
    listen: { host: '::', port: 9735 },
    managerAddresses: ['a:1', 'b:2'],
    routerAddress: undefined,
    limits: { maxConnections: 7 },
    wireLog: undefined,
  });
});

test('messages are logged only where a directory is named', () => {
  const directory = '/var/log/fulmen';
  const asked = gatewayConfig({ ...environment, FULMEN_WIRE_LOG_DIRECTORY: directory });
  expect(asked.wireLog).toEqual({ directory, maxBytes: 256 * 1024 * 1024 });
  expect(() => gatewayConfig({ ...environment, FULMEN_WIRE_LOG_MAX_BYTES: '5' })).toThrow(ConfigError);
});

test.each([
  ['FULMEN_LIGHTNING_LISTEN_ADDRESS', 'nowhere'],
  ['FULMEN_NETWORK', 'bitcoin2'],
  ['FULMEN_MANAGER_ADDRESSES', ''],
  ['FULMEN_SIGNER_ADDRESS', 'x'],
  ['FULMEN_GATEWAY_ID', undefined],
])('refuses %s = %s', (name, value) => {
  expect(() => gatewayConfig({ ...environment, [name]: value })).toThrow(ConfigError);
});

test('a client certificate is whole or absent', () => {
  expect(signerIdentity({})).toBeUndefined();
  expect(() => signerIdentity({ FULMEN_TLS_CA_FILE: 'ca.pem' })).toThrow(ConfigError);
});
