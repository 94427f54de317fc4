/**
 * The fleet's certificates for mutual TLS: an authority of its own, and one
 * certificate for each service. A certificate's organizational units are what
 * its holder may call (`libs/rpc/src/callers.ts`).
 *
 * Run it (`node deploy/bootstrap/run.mjs deploy/certificates/make-certificates.ts
 * FOLDER [HOST…]`, with `--towers` before FOLDER for those of towers) or call
 * `makeCertificates`. Keys are for the user alone who ran it.
 * Whoever holds `ca.key` can make a certificate with any capability: keep it
 * off the machines that run services.
 */
import { X509Certificate, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { type Subject, makeCertificate } from './x509.ts';

export interface CertificateEntry {
  /** Common name, a host name in the certificate, and the files' name. */
  readonly name: string;
  readonly capabilities: readonly string[];
  /** Names and addresses besides localhost, 127.0.0.1, ::1 and `name`. */
  readonly hosts?: readonly string[];
}

/** PEM files of one service. */
export interface CertificateFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** The services, and the units by which the others know each. */
export const FLEET: readonly CertificateEntry[] = [
  { name: 'signer', capabilities: ['signer'] },
  { name: 'channel-manager', capabilities: ['channel', 'node'] },
  { name: 'chain-monitor', capabilities: ['claim', 'wallet', 'seal'] },
  { name: 'peer-gateway', capabilities: ['ecdh'] },
  { name: 'router', capabilities: ['router'] },
  { name: 'console', capabilities: ['console'] },
];

/**
 * Towers have an authority of their own, in a folder of its own: what it signs is trusted by the feed for towers and by
 * towers' signers, and by nothing of the fleet.
 */
export const TOWERS: readonly CertificateEntry[] = [
  { name: 'tower-feed', capabilities: ['feed'] },
  { name: 'tower', capabilities: ['tower'] },
  { name: 'justice-signer', capabilities: ['justice'] },
];

const DAY_MS = 24 * 60 * 60 * 1000;
const AUTHORITY_DAYS = 3650;
const SERVICE_DAYS = 825;
/** A certificate nearer to its end than this is made anew. */
const RENEW_DAYS = 30;
const AUTHORITY: Subject = { commonName: 'Fulmen fleet authority', organizationalUnits: [] };

/** Makes what is missing, near its end, or not as its entry wants it; leaves the rest as it is. */
export function makeCertificates(
  folder: string,
  entries: readonly CertificateEntry[],
): ReadonlyMap<string, CertificateFiles> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const ca = join(folder, 'ca.pem');
  const caKey = join(folder, 'ca.key');
  if (!existsSync(ca) || !existsSync(caKey)) makeAuthority(ca, caKey);
  const made = new Map<string, CertificateFiles>();
  for (const entry of entries) {
    const files = {
      ca,
      certificate: join(folder, `${entry.name}.pem`),
      key: join(folder, `${entry.name}.key`),
    };
    if (!isCurrent(files, entry)) makeService(files, caKey, entry);
    made.set(entry.name, files);
  }
  return made;
}

function write(path: string, text: string, mode: number): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, text, { mode });
  renameSync(temporary, path);
}

function newKey() {
  const pair = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return {
    publicKey: pair.publicKey,
    privateKey: pair.privateKey,
    pem: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function validity(days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  // A clock that is an hour behind still accepts it.
  return { notBefore: new Date(Date.now() - DAY_MS / 24), notAfter: new Date(Date.now() + days * DAY_MS) };
}

function makeAuthority(ca: string, caKey: string): void {
  const { publicKey, privateKey, pem } = newKey();
  write(caKey, pem, 0o600);
  write(
    ca,
    makeCertificate({
      subject: AUTHORITY,
      issuer: AUTHORITY,
      publicKey,
      issuerKey: privateKey,
      ...validity(AUTHORITY_DAYS),
      role: { type: 'authority' },
    }),
    0o644,
  );
}

function hostsOf({ name, hosts = [] }: CertificateEntry): string[] {
  return [...new Set(['localhost', name, '127.0.0.1', '::1', ...hosts])];
}

function makeService(files: CertificateFiles, caKey: string, entry: CertificateEntry): void {
  const { publicKey, pem } = newKey();
  const certificate = makeCertificate({
    subject: { commonName: entry.name, organizationalUnits: entry.capabilities },
    issuer: AUTHORITY,
    publicKey,
    issuerKey: createPrivateKey(readFileSync(caKey)),
    ...validity(SERVICE_DAYS),
    role: { type: 'service', hosts: hostsOf(entry) },
  });
  write(files.key, pem, 0o600);
  write(files.certificate, certificate, 0o644);
}

function isCurrent(files: CertificateFiles, entry: CertificateEntry): boolean {
  if (!existsSync(files.certificate) || !existsSync(files.key)) return false;
  try {
    const certificate = new X509Certificate(readFileSync(files.certificate));
    const authority = new X509Certificate(readFileSync(files.ca));
    const units = certificate.subject
      .split('\n')
      .flatMap((line) => (line.startsWith('OU=') ? [line.slice(3)] : []));
    const key = createPublicKey(createPrivateKey(readFileSync(files.key)));
    const known = hostsOf(entry).every(
      (host) => (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined,
    );
    return (
      certificate.checkIssued(authority) &&
      certificate.verify(authority.publicKey) &&
      certificate.publicKey.equals(key) &&
      certificate.validToDate.getTime() > Date.now() + RENEW_DAYS * DAY_MS &&
      units.join(',') === entry.capabilities.join(',') &&
      known
    );
  } catch {
    // Cut off by a crash, or written by something else.
    return false;
  }
}

if (import.meta.main) {
  const isForTowers = process.argv[2] === '--towers';
  const [folder, ...hosts] = process.argv.slice(isForTowers ? 3 : 2);
  if (folder === undefined) {
    process.stderr.write('usage: make-certificates.ts [--towers] FOLDER [HOST…]\n');
    process.exit(64);
  }
  for (const [name, files] of makeCertificates(
    folder,
    (isForTowers ? TOWERS : FLEET).map((entry) => ({ ...entry, hosts })),
  ))
    process.stdout.write(`${name}: ${files.certificate}\n`);
}
