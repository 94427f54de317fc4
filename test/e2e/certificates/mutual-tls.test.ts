import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { TowerAdminServiceService } from '@fulmen/proto/tower/v1/tower';
import {
  grpcConnector,
  grpcServer,
  type Handlers,
  type RpcError,
  TlsIdentity,
  type TlsPems,
} from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import {
  type CertificateFiles,
  FLEET,
  makeCertificates,
} from '../../../deploy/certificates/make-certificates.ts';
import { memoryMarker } from '@fulmen/signer/marker';
import { start } from '@fulmen/signer/start';
import { MemorySignerStore } from '@fulmen/signer/store/memory';
import { EMPTY_ITEM, registrationOf, testParties } from '@fulmen/signer/testing/channel';
import { BatchClient, testRuntime } from '@fulmen/signer/testing/harness';
import { wireItem, wireRegistration } from '@fulmen/signer/testing/wire';

const folder = mkdtempSync(join(tmpdir(), 'fulmen-certificates-'));
afterAll(() => rmSync(folder, { recursive: true }));
const parties = testParties(secp);

function pems(files: ReadonlyMap<string, CertificateFiles>, name: string): TlsPems {
  const of = files.get(name);
  if (of === undefined) throw new RangeError(name);
  return {
    caCertificate: readFileSync(of.ca),
    certificate: readFileSync(of.certificate),
    privateKey: readFileSync(of.key),
  };
}

describe('the fleet’s certificates', () => {
  test('are signed by the authority, name hosts and capabilities, and are made once', () => {
    const files = makeCertificates(join(folder, 'a'), FLEET);
    const authority = new X509Certificate(pems(files, 'signer').caCertificate);
    expect(authority.ca).toBe(true);
    expect(authority.verify(authority.publicKey)).toBe(true);
    for (const { name, capabilities } of FLEET) {
      const certificate = new X509Certificate(pems(files, name).certificate);
      expect(certificate.verify(authority.publicKey)).toBe(true);
      expect(certificate.ca).toBe(false);
      expect(certificate.checkHost(name)).toBe(name);
      expect(certificate.checkIP('127.0.0.1')).toBe('127.0.0.1');
      expect(certificate.checkIP('::1')).toBeDefined();
      expect(certificate.subject.split('\n').filter((line) => line.startsWith('OU='))).toEqual(
        capabilities.map((one) => `OU=${one}`),
      );
    }
    const before = pems(files, 'signer').certificate;
    expect(pems(makeCertificates(join(folder, 'a'), FLEET), 'signer').certificate).toEqual(before);
  });

  test('are made anew when cut off, or when an entry wants something else', () => {
    const entry = { name: 'one', capabilities: ['claim'] };
    const first = makeCertificates(join(folder, 'b'), [entry]);
    const before = pems(first, 'one').certificate;
    const changes = [
      { ...entry, capabilities: ['claim', 'wallet'] },
      { ...entry, hosts: ['one.example', '10.1.2.3'] },
    ];
    for (const change of changes)
      expect(pems(makeCertificates(join(folder, 'b'), [change]), 'one').certificate).not.toEqual(before);
    writeFileSync(join(folder, 'b', 'one.pem'), before.subarray(0, 100));
    expect(
      new X509Certificate(pems(makeCertificates(join(folder, 'b'), [entry]), 'one').certificate).checkHost(
        'one',
      ),
    ).toBe('one');
  });
});

describe('mutual TLS', () => {
  let stop: () => Promise<void>;
  let address: string;
  const files = makeCertificates(join(folder, 'c'), FLEET);
  const foreign = makeCertificates(join(folder, 'd'), FLEET);
  beforeAll(async () => {
    const service = await start(
      { network: 'regtest' },
      {
        rpcServer: grpcServer({ listenAddress: '127.0.0.1:0', tls: new TlsIdentity(pems(files, 'signer')) }),
        store: new MemorySignerStore(),
        runtime: testRuntime,
        logger: silentLogger,
        metrics: new Metrics('signer'),
        secp,
        keys: parties.alice.keys,
        marker: memoryMarker(),
      },
    );
    ({ address, stop } = { address: service.address, stop: () => service.stop() });
  });
  afterAll(() => stop());

  const as = async <T>(
    tls: TlsPems | undefined,
    work: (client: ReturnType<typeof connect>['client']) => Promise<T>,
  ): Promise<T> => {
    const { client, close } = connect(tls);
    return work(client).finally(close);
  };
  const connect = (tls: TlsPems | undefined) => {
    const connector = grpcConnector({ serverName: 'localhost', ...(tls && { tls: new TlsIdentity(tls) }) });
    return { client: connector.client(SignerServiceService, address), close: () => connector.close() };
  };

  test('the certificate’s units are the capabilities', async () => {
    const ecdh = { publicKey: parties.bob.keys.nodeId };
    const keys = { channelKeysId: parties.alice.channelKeysId };
    await as(pems(files, 'peer-gateway'), async (client) => {
      expect((await client.ecdh(ecdh)).sharedSecret).toHaveLength(32);
      expect((await client.getNode({})).health).toBe('ready');
      await expect(client.newChannelKeys(keys)).rejects.toMatchObject({ code: 'permission_denied' });
      await expect(client.getWalletDescriptors({})).rejects.toMatchObject({ code: 'permission_denied' });
    });
    await as(pems(files, 'channel-manager'), async (client) => {
      expect((await client.newChannelKeys(keys)).perCommitmentPoints).toHaveLength(3);
      await expect(client.ecdh(ecdh)).rejects.toMatchObject({ code: 'permission_denied' });
      await client.registerChannel(wireRegistration(registrationOf(secp, parties, 'alice'), 1n));
      const batches = new BatchClient(client);
      expect(
        await batches.one(wireItem(keys.channelKeysId, { shard: 7, epoch: 1n }, EMPTY_ITEM)),
      ).toMatchObject({ firstPointNumber: 0n });
      batches.end();
    });
  });

  test('no certificate, and one of another authority, get nothing', async () => {
    const call = (client: ReturnType<typeof connect>['client']) => client.getNode({}, { deadlineMs: 2_000 });
    await expect(as(undefined, call)).rejects.toMatchObject({ name: 'RpcError' });
    const stranger = {
      ...pems(foreign, 'channel-manager'),
      caCertificate: pems(files, 'signer').caCertificate,
    };
    await expect(as(stranger, call)).rejects.toMatchObject({ name: 'RpcError' });
  });
});

describe('who may call what', () => {
  // Of the authority, and nothing more.
  const files = makeCertificates(join(folder, 'e'), [
    ...FLEET,
    { name: 'nobody', capabilities: [] },
    { name: 'pretender', capabilities: ['plaintext'] },
  ]);
  const start = async (tls: TlsPems | undefined) => {
    const server = grpcServer({
      listenAddress: '127.0.0.1:0',
      ...(tls && { tls: new TlsIdentity(tls) }),
    });
    server.add(WalletServiceService, {
      sendCoins: () => Promise.resolve({ txid: new Uint8Array(32), feeSat: 1n }),
    } as unknown as Handlers<WalletServiceService>);
    server.add(TowerAdminServiceService, {
      listTowers: () => Promise.resolve({ towers: [], required: 0 }),
    } as unknown as Handlers<TowerAdminServiceService>);
    const at = await server.listen();
    onTestFinished(() => server.stop(0));
    return async (caller: TlsPems | undefined) => {
      const connector = grpcConnector(caller && { serverName: 'localhost', tls: new TlsIdentity(caller) });
      const outcome = (call: Promise<unknown>) =>
        call.then(
          () => 'ok',
          (error: RpcError) => error.code,
        );
      const send = { address: '', valueSat: 1n, idempotencyKey: '' };
      try {
        return [
          await outcome(connector.client(WalletServiceService, at).sendCoins(send)),
          await outcome(connector.client(TowerAdminServiceService, at).listTowers({})),
        ];
      } finally {
        connector.close();
      }
    };
  };

  test('is what the certificates of the fleet say', async () => {
    const ask = await start(pems(files, 'chain-monitor'));
    expect(await ask(pems(files, 'console'))).toEqual(['ok', 'ok']);
    const others = FLEET.map(({ name }) => name).filter((name) => name !== 'console');
    for (const name of [...others, 'nobody', 'pretender'])
      expect([name, ...(await ask(pems(files, name)))]).toEqual([
        name,
        'permission_denied',
        'permission_denied',
      ]);
  });

  test('without TLS nobody is told from anybody', async () => {
    const ask = await start(undefined);
    expect(await ask(undefined)).toEqual(['ok', 'ok']);
  });
});
