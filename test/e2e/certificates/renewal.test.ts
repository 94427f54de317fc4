import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Certificates, grpcConnector, grpcServer, tlsFiles, type TlsIdentity } from '@fulmen/rpc';
import { AbortedError, ConfigError, type Logger, Metrics, nodeRuntime, silentLogger } from '@fulmen/service';
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { CertificateFiles } from '../../../deploy/certificates/make-certificates.ts';
import { makeCertificate, type Subject } from '../../../deploy/certificates/x509.ts';

const HOUR_MS = 3_600_000;
const folder = mkdtempSync(join(tmpdir(), 'fulmen-renewal-'));
afterAll(() => rmSync(folder, { recursive: true }));

const newKey = () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

interface Authority {
  readonly subject: Subject;
  readonly key: KeyObject;
  readonly pem: string;
}

function newAuthority(name: string): Authority {
  const subject = { commonName: name, organizationalUnits: [] };
  const { publicKey, privateKey } = newKey();
  const pem = makeCertificate({
    subject,
    issuer: subject,
    publicKey,
    issuerKey: privateKey,
    notBefore: new Date(Date.now() - 48 * HOUR_MS),
    notAfter: new Date(Date.now() + 48 * HOUR_MS),
    role: { type: 'authority' },
  });
  return { subject, key: privateKey, pem };
}

/** Puts a new pair of `name` in place. @param endsInMs negative: it has expired */
function issue(authority: Authority, name: string, endsInMs: number): CertificateFiles {
  const { publicKey, privateKey } = newKey();
  const files = {
    ca: join(folder, `${name}-ca.pem`),
    certificate: join(folder, `${name}.pem`),
    key: join(folder, `${name}.key`),
  };
  writeFileSync(files.ca, authority.pem);
  writeFileSync(files.key, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(
    files.certificate,
    makeCertificate({
      subject: { commonName: name, organizationalUnits: [name] },
      issuer: authority.subject,
      publicKey,
      issuerKey: authority.key,
      notBefore: new Date(Date.now() - 24 * HOUR_MS),
      notAfter: new Date(Date.now() + endsInMs),
      role: { type: 'service', hosts: ['localhost'] },
    }),
  );
  return files;
}

const text = {
  encode: (value: string): Buffer => Buffer.from(value, 'utf8'),
  decode: (value: Buffer): string => value.toString('utf8'),
};
const WhoService = {
  who: {
    path: '/test.v1.WhoService/Who',
    requestStream: false,
    responseStream: false,
    requestSerialize: text.encode,
    requestDeserialize: text.decode,
    responseSerialize: text.encode,
    responseDeserialize: text.decode,
  },
} as const;

const runtime = nodeRuntime({ onFailure: () => undefined });

/** Of one process. */
function newCertificates() {
  const metrics = new Metrics('process');
  const logger = { ...silentLogger, error: vi.fn<Logger['error']>() };
  const certificates = new Certificates({ runtime, logger, metrics });
  onTestFinished(() => certificates.close());
  return { certificates, metrics, logger };
}

async function serve(tls: TlsIdentity, listenAddress = '127.0.0.1:0') {
  const server = grpcServer({ listenAddress, tls });
  server.add(
    WhoService,
    { who: (_request: string, { capabilities }) => Promise.resolve([...capabilities].join()) },
    { callers: { 'test.v1.WhoService': 'anyone' } },
  );
  const address = await server.listen();
  const stop = () => server.stop(0);
  onTestFinished(stop);
  return { address, stop };
}

function dial(tls: TlsIdentity, address: string) {
  const connector = grpcConnector({ tls });
  onTestFinished(() => connector.close());
  const client = connector.client(WhoService, address);
  return () => client.who('who?', { deadlineMs: 5_000 });
}

/** A client does not dial at once again when it was refused. */
const answered = (call: () => Promise<string>) =>
  vi.waitFor(async () => expect(await call()).toBe('manager'), { timeout: 10_000 });

describe('a process that outlives its certificate', () => {
  test('dials a server that came back with a renewed one', async () => {
    const [old, next] = [newAuthority('old'), newAuthority('next')];
    const [manager, signer] = [newCertificates(), newCertificates()];
    const before = await serve(await signer.certificates.open(issue(old, 'signer', HOUR_MS)));
    const call = dial(await manager.certificates.open(issue(old, 'manager', HOUR_MS)), before.address);
    expect(await call()).toBe('manager');
    issue(next, 'manager', HOUR_MS);
    const renewed = issue(next, 'signer', HOUR_MS);
    await manager.certificates.refresh();
    expect(await call()).toBe('manager');
    await before.stop();
    await serve(await newCertificates().certificates.open(renewed), before.address);
    await answered(call);
  });

  test('is refused with the one that ended, and taken with its successor', async () => {
    const authority = newAuthority('authority');
    const [manager, signer] = [newCertificates(), newCertificates()];
    const { address } = await serve(await signer.certificates.open(issue(authority, 'signer', HOUR_MS)));
    const call = dial(await manager.certificates.open(issue(authority, 'manager', -HOUR_MS)), address);
    await expect(call()).rejects.toMatchObject({ code: 'unavailable' });
    issue(authority, 'manager', HOUR_MS);
    await manager.certificates.refresh();
    await answered(call);
  });

  test('serves with the successor, and knows the authority’s too', async () => {
    const [old, next] = [newAuthority('old'), newAuthority('next')];
    const [manager, signer] = [newCertificates(), newCertificates()];
    const { address } = await serve(await signer.certificates.open(issue(old, 'signer', -HOUR_MS)));
    const call = dial(await manager.certificates.open(issue(next, 'manager', HOUR_MS)), address);
    await expect(call()).rejects.toMatchObject({ code: 'unavailable' });
    issue(next, 'signer', HOUR_MS);
    await signer.certificates.refresh();
    await answered(call);
  });

  test('looks at its files by itself', async () => {
    const authority = newAuthority('authority');
    const turn = Promise.withResolvers<void>();
    const sleeps = [turn.promise, new Promise<void>(() => undefined)];
    const certificates = new Certificates({
      runtime: {
        ...runtime,
        sleep: () => sleeps.shift() ?? Promise.reject(new AbortedError('asleep already')),
      },
      logger: silentLogger,
      metrics: new Metrics('process'),
    });
    const identity = await certificates.open(issue(authority, 'manager', HOUR_MS));
    const { certificate } = issue(authority, 'manager', 2 * HOUR_MS);
    turn.resolve();
    await vi.waitFor(() => expect(identity.pems.certificate).toEqual(readFileSync(certificate)));
  });

  test('keeps what it has while its files do not fit together, and says so', async () => {
    const authority = newAuthority('authority');
    const { certificates, logger, metrics } = newCertificates();
    const files = issue(authority, 'manager', HOUR_MS);
    const identity = await certificates.open(files);
    const before = identity.pems;
    const ends = async (): Promise<number | undefined> => {
      const { values } =
        (await metrics.registry.getSingleMetric('fulmen_certificate_expires_seconds')?.get()) ?? {};
      return values?.find(({ labels }) => labels['file'] === files.certificate)?.value;
    };
    const endOf = (pem: Buffer): number => new X509Certificate(pem).validToDate.getTime() / 1000;
    issue(authority, 'manager', 2 * HOUR_MS);
    const after = readFileSync(files.certificate);
    writeFileSync(files.key, before.privateKey);
    await certificates.refresh();
    writeFileSync(files.certificate, after.subarray(0, 100));
    await certificates.refresh();
    rmSync(files.certificate);
    await certificates.refresh();
    expect(identity.pems).toBe(before);
    expect(logger.error).toHaveBeenCalledTimes(3);
    expect(await ends()).toBe(endOf(before.certificate));
    issue(authority, 'manager', 3 * HOUR_MS);
    await certificates.refresh();
    expect(await ends()).toBe(endOf(readFileSync(files.certificate)));
    expect(logger.error).toHaveBeenCalledTimes(3);
  });
});

test('files that are missing, or do not fit together, are refused at the start', async () => {
  const authority = newAuthority('authority');
  const { certificates } = newCertificates();
  const files = issue(authority, 'manager', HOUR_MS);
  const other = issue(authority, 'signer', HOUR_MS);
  await expect(certificates.open({ ...files, key: other.key })).rejects.toThrow(ConfigError);
  await expect(certificates.open({ ...files, ca: join(folder, 'none.pem') })).rejects.toThrow('none.pem');
  expect(tlsFiles({})).toBeUndefined();
  expect(() => tlsFiles({ FULMEN_TLS_CA_FILE: files.ca })).toThrow(ConfigError);
});
