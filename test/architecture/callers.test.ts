// Holds who may call what: every method names its callers, and each certificate of the fleet reaches what its service
// needs and nothing else.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Callers, CALLERS, callersOf } from '@fulmen/rpc';
import { beforeAll, describe, expect, test } from 'vitest';
import { FLEET, TOWERS } from '../../deploy/certificates/make-certificates.ts';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const generated = path.join(root, 'proto', 'gen', 'fulmen');

/** Of every method of every contract, by its path. */
const methods = new Map<string, Callers>();

beforeAll(async () => {
  const files = fs.readdirSync(generated, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((one) => one.endsWith('.ts'))) {
    const contract = (await import(path.join(generated, file))) as Readonly<Record<string, unknown>>;
    for (const [name, definition] of Object.entries(contract)) {
      if (!name.endsWith('ServiceService')) continue;
      for (const { path: one } of Object.values(definition as Readonly<Record<string, { path: string }>>))
        methods.set(one, callersOf(one));
    }
  }
});

/** What a certificate of these units reaches: "WalletService.SendCoins". The public API, which asks for a token, is left out. */
function reach(units: readonly string[]): string[] {
  return [...methods]
    .filter(([, callers]) => callers !== 'anyone' && callers.some((one) => units.includes(one)))
    .map(([one]) => one.replace(/^.*\.(\w+)\/(\w+)$/, '$1.$2'))
    .toSorted();
}

const unitsOf = (service: string): readonly string[] =>
  [...FLEET, ...TOWERS].find(({ name }) => name === service)?.capabilities ?? [];

test('every method of every service names its callers', () => {
  expect(methods.size).toBeGreaterThan(80);
  expect([...methods].filter(([, callers]) => callers.length === 0).map(([one]) => one)).toEqual([]);
});

test('the table names nothing that is not there', () => {
  const named = Object.entries(CALLERS).flatMap(([service, entry]) =>
    entry === 'anyone' || Array.isArray(entry)
      ? [`/${service}/`]
      : Object.keys(entry).map((method) => `/${service}/${method}`),
  );
  const real = [...methods.keys()];
  expect(named.filter((one) => !real.some((method) => method.startsWith(one)))).toEqual([]);
});

test('anyone may call the public API alone, and nobody reaches keys without a certificate', () => {
  const open = [...methods].filter(([, callers]) => callers === 'anyone').map(([one]) => one);
  expect(open.filter((one) => !one.startsWith('/fulmen.node.v1.'))).toEqual([]);
  expect(reach(['plaintext']).filter((one) => /^(Signer|JusticeSigner|TowerFeed)Service/.test(one))).toEqual(
    [],
  );
});

test('callers are units of certificates that are made', () => {
  const made = new Set([...FLEET, ...TOWERS].flatMap(({ capabilities }) => capabilities));
  const asked = new Set([...methods.values()].flatMap((callers) => (callers === 'anyone' ? [] : callers)));
  expect([...asked].filter((unit) => !made.has(unit))).toEqual(['plaintext']);
});

describe('a certificate reaches what its service calls', () => {
  test.each<[service: string, reached: readonly string[]]>([
    [
      'peer-gateway',
      ['GossipService.Gossip', 'PeerLinkService.Link', 'SignerService.Ecdh', 'SignerService.GetNode'],
    ],
    [
      'router',
      [
        'ChainService.GetBestBlock',
        'ChainService.GetUtxo',
        'RouterService.PublishOwn',
        'RouterService.ReportPath',
        'SignerService.GetNode',
      ],
    ],
    [
      'channel-manager',
      [
        'ChainService.EstimateFee',
        'ChainService.GetBestBlock',
        'RouterService.FindRoute',
        'RouterService.GetNode',
        'RouterService.LookupChannel',
        'RouterService.PublishOwn',
        'RouterService.ReportPath',
        'SignerService.FenceShard',
        'SignerService.GetChannelStates',
        'SignerService.GetDerivedSecret',
        'SignerService.GetNode',
        'SignerService.GetPerCommitmentPoints',
        'SignerService.NewChannelKeys',
        'SignerService.RegisterChannel',
        'SignerService.SignBatch',
        'SignerService.SignClosing',
        'SignerService.SignGossip',
        'SignerService.SignInvoice',
        'WalletService.FundChannel',
        'WalletService.GetAnchorReserve',
        'WalletService.ReleaseFunding',
      ],
    ],
    [
      'chain-monitor',
      [
        'SignerService.GetChannelStates',
        'SignerService.GetNode',
        'SignerService.GetPerCommitmentPoints',
        'SignerService.GetWalletDescriptors',
        'SignerService.SealJusticeKey',
        'SignerService.SignClaim',
        'SignerService.SignHolderCommitment',
        'SignerService.SignPsbt',
      ],
    ],
    ['signer', ['SignerService.GetNode']],
    [
      'tower',
      [
        'JusticeSignerService.CheckKey',
        'JusticeSignerService.GetJusticeNode',
        'JusticeSignerService.SignJustice',
        'SettlementService.BumpSweep',
        'SettlementService.ListClosingChannels',
        'SettlementService.ListSweeps',
        'TowerFeedService.Acknowledge',
        'TowerFeedService.GetMonitor',
        'TowerFeedService.Pull',
        'TowerFeedService.ReportSetBack',
      ],
    ],
    ['tower-feed', []],
    ['justice-signer', []],
  ])('%s', (service, reached) => expect(reach(unitsOf(service))).toEqual(reached));

  test('console: what operators do, and no more than the signer’s name', () => {
    const reached = reach(unitsOf('console'));
    expect(reached.filter((one) => one.startsWith('SignerService'))).toEqual(['SignerService.GetNode']);
    expect(reached).toEqual(
      expect.arrayContaining(['ManagerService.SendKeysend', 'WalletService.SendCoins']),
    );
    for (const foreign of ['PeerLinkService.Link', 'GossipService.Gossip', 'WalletService.FundChannel'])
      expect(reached).not.toContain(foreign);
  });
});
