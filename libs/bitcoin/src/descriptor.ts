/** Checksums of output descriptors (BIP 380), so that a wallet which imports one notices every slip. */
import { BitcoinError } from './errors.ts';

/** Characters of descriptors, arranged so that likely slips change few of the checked symbols. */
const INPUT_CHARSET =
  "0123456789()[],'/*abcdefgh@:$%{}" +
  'IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~' +
  'ijklmnopqrstuvwxyzABCDEFGH`#"\\ ';
const CHECKSUM_CHARSET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const GENERATOR = [0xf5dee51989n, 0xa9fdca3312n, 0x1bab10e32dn, 0x3706b1677an, 0x644d626ffdn];
const CHECKSUM_LENGTH = 8;

function polymod(checksum: bigint, symbol: number): bigint {
  const top = checksum >> 35n;
  let next = ((checksum & 0x7_ffff_ffffn) << 5n) ^ BigInt(symbol);
  for (const [bit, generator] of GENERATOR.entries())
    if (((top >> BigInt(bit)) & 1n) === 1n) next ^= generator;
  return next;
}

/** The 8 characters that follow `#`. @throws BitcoinError for a character that no descriptor has */
export function descriptorChecksum(descriptor: string): string {
  let checksum = 1n;
  let groups = 0;
  let group = 0;
  for (const character of descriptor) {
    const position = INPUT_CHARSET.indexOf(character);
    if (position < 0) throw new BitcoinError('bad-descriptor', 'a descriptor has no such character');
    checksum = polymod(checksum, position & 31);
    group = group * 3 + (position >> 5);
    groups += 1;
    if (groups === 3) {
      checksum = polymod(checksum, group);
      [groups, group] = [0, 0];
    }
  }
  if (groups > 0) checksum = polymod(checksum, group);
  for (let i = 0; i < CHECKSUM_LENGTH; i++) checksum = polymod(checksum, 0);
  checksum ^= 1n;
  return Array.from(
    { length: CHECKSUM_LENGTH },
    (_, at) => CHECKSUM_CHARSET[Number((checksum >> BigInt(5 * (CHECKSUM_LENGTH - 1 - at))) & 31n)],
  ).join('');
}

/** The descriptor with its checksum. @throws BitcoinError */
export function withChecksum(descriptor: string): string {
  return `${descriptor}#${descriptorChecksum(descriptor)}`;
}
