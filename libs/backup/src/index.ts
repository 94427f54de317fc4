/** The static channel backup: what the seed alone cannot know, sealed with a key that the seed knows. */
export * from './backup.ts';
export { encodeChannel, MAX_ADDRESSES } from './codec.ts';
export { describeReplacementFault, fitted, isSameContent, merged, replacementFault } from './policy.ts';
export {
  describeOpenFault,
  MAX_BACKUP_BYTES,
  openBackup,
  readHeader,
  SALT_LENGTH,
  sealBackup,
} from './seal.ts';
export type { BackupHeader, OpenFault } from './seal.ts';
