/** X.509 certificates (RFC 5280) with ECDSA keys on P-256: what mutual TLS inside the fleet needs, and nothing else. */
import { type KeyObject, createHash, createPublicKey, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';
import {
  bitString,
  der,
  explicit,
  implicit,
  integer,
  objectId,
  octetString,
  sequence,
  set,
  time,
  truth,
  utf8String,
} from './der.ts';

export interface Subject {
  readonly commonName: string;
  /** In this order. */
  readonly organizationalUnits: readonly string[];
}

export interface CertificateRequest {
  readonly subject: Subject;
  readonly issuer: Subject;
  readonly publicKey: KeyObject;
  readonly issuerKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly role:
    | { readonly type: 'authority' }
    | { readonly type: 'service'; readonly hosts: readonly string[] };
}

const OID = {
  commonName: '2.5.4.3',
  organizationalUnit: '2.5.4.11',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAlternativeName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

const algorithm = sequence(objectId(OID.ecdsaWithSha256));

function attribute(oid: string, value: string): Uint8Array {
  return set(sequence(objectId(oid), utf8String(value)));
}

function name({ commonName, organizationalUnits }: Subject): Uint8Array {
  return sequence(
    ...organizationalUnits.map((unit) => attribute(OID.organizationalUnit, unit)),
    attribute(OID.commonName, commonName),
  );
}

function extension(oid: string, importance: 'critical' | 'normal', value: Uint8Array): Uint8Array {
  return sequence(objectId(oid), ...(importance === 'critical' ? [truth()] : []), octetString(value));
}

/** RFC 5280 4.2.1.2: SHA-1 of the key's bits; an identifier, not a protection. */
function keyIdentifier(publicKey: KeyObject): Uint8Array {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  // An uncompressed P-256 point ends the structure.
  return createHash('sha1').update(spki.subarray(-65)).digest();
}

/** The bytes of an IP address: 4, or 16. */
function addressBytes(address: string): Uint8Array {
  if (isIP(address) === 4) return Uint8Array.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => '0'), ...back];
  return Uint8Array.from(
    all.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]),
  );
}

function alternativeName(host: string): Uint8Array {
  return isIP(host) === 0 ? implicit(2, Buffer.from(host, 'ascii')) : implicit(7, addressBytes(host));
}

function extensions(request: CertificateRequest): Uint8Array {
  const { role } = request;
  const authority = extension(
    OID.authorityKeyIdentifier,
    'normal',
    sequence(implicit(0, keyIdentifier(createPublicKey(request.issuerKey)))),
  );
  const own = extension(OID.subjectKeyIdentifier, 'normal', octetString(keyIdentifier(request.publicKey)));
  if (role.type === 'authority') {
    // keyCertSign and cRLSign; no authorities below this one.
    return sequence(
      extension(OID.basicConstraints, 'critical', sequence(truth(), integer(Uint8Array.of(0)))),
      extension(OID.keyUsage, 'critical', bitString(Uint8Array.of(0x06), 1)),
      own,
      authority,
    );
  }
  return sequence(
    extension(OID.basicConstraints, 'critical', sequence()),
    extension(OID.keyUsage, 'critical', bitString(Uint8Array.of(0x80), 7)),
    extension(OID.extendedKeyUsage, 'normal', sequence(objectId(OID.serverAuth), objectId(OID.clientAuth))),
    extension(OID.subjectAlternativeName, 'normal', sequence(...role.hosts.map(alternativeName))),
    own,
    authority,
  );
}

/** A signed certificate as PEM. */
export function makeCertificate(request: CertificateRequest): string {
  const serial = randomBytes(16);
  const toSign = sequence(
    explicit(0, integer(Uint8Array.of(2))),
    integer(serial),
    algorithm,
    name(request.issuer),
    sequence(time(request.notBefore), time(request.notAfter)),
    name(request.subject),
    request.publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, extensions(request)),
  );
  const certificate = der(0x30, toSign, algorithm, bitString(sign('sha256', toSign, request.issuerKey)));
  const lines =
    Buffer.from(certificate)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
