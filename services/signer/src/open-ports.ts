/** The ports of a real signer process: Postgres, the seed file, gRPC with mutual TLS. */
import { readFileSync } from 'node:fs';
import { NETWORKS } from '@fulmen/bitcoin';
import { secp256k1 } from '@fulmen/crypto/default';
import { equalBytes } from '@fulmen/codec';
import { type KeyTree, keyTree } from '@fulmen/keys';
import { Certificates, grpcServer } from '@fulmen/rpc';
import type { ProcessPorts, RunningService } from '@fulmen/service';
import { Database, migrate, requireDurability } from '@fulmen/store';
import { signerConfig } from './config.ts';
import type { SignerConfig } from './config.ts';
import { fileMarker } from './marker.ts';
import { guardProcess } from './process-guard.ts';
import {
  SeedError,
  newMnemonic,
  openMnemonic,
  readSeedFile,
  sealMnemonic,
  seedFileExists,
  seedOf,
  writeSeedFile,
} from './seed/seed-file.ts';
import { readSeedKey } from './seed/seed-key.ts';
import { start } from './start.ts';
import type { SeedMetadata } from './store/port.ts';
import { PostgresSignerStore, SIGNER_MIGRATIONS, SIGNER_SCHEMA } from './store/postgres/postgres-store.ts';

/** Starts the signer of this process. */
export async function startProcess(ports: ProcessPorts): Promise<RunningService> {
  guardProcess(ports.logger);
  const config = signerConfig(ports.environment);
  const database = new Database({
    connectionString: config.databaseUrl,
    applicationName: 'fulmen-signer',
    schema: SIGNER_SCHEMA,
    maxConnections: 4,
  });
  const certificates = new Certificates(ports);
  const close = async (): Promise<void> => {
    await certificates.close();
    await database.close();
  };
  try {
    await migrate(database, SIGNER_MIGRATIONS);
    await requireDurability(database, config.durability);
    const store = new PostgresSignerStore(database);
    const keys = loadKeys(config, await store.readSeedMetadata(), ports.runtime.randomBytes);
    const rpcServer = grpcServer({
      listenAddress: config.listenAddress,
      tls: await certificates.open(config.tls),
      onInternalError: (path, error) =>
        ports.logger.error({ path, err: error }, 'a request failed by a defect'),
    });
    const service = await start(config.options, {
      ...ports,
      rpcServer,
      store,
      keys,
      secp: secp256k1,
      marker: fileMarker(`${config.seed.file}.generation`),
    });
    return { ...service, stop: () => service.stop().finally(close) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The key tree of the seed file, which is made when neither it nor the database knows a seed yet. */
export function loadKeys(
  { seed, options }: Pick<SignerConfig, 'seed' | 'options'>,
  known: SeedMetadata | undefined,
  randomBytes: (length: number) => Uint8Array,
): KeyTree {
  const network = NETWORKS[options.network];
  const secret = readSeedKey(seed.key);
  if (seedFileExists(seed.file))
    return keyTree(secp256k1, seedOf(openMnemonic(readSeedFile(seed.file), secret)), network);
  if (known !== undefined && seed.mnemonicFile === undefined) {
    throw new SeedError(
      `this database belongs to a seed, and there is no file ${seed.file}: restore it, or its words with FULMEN_SIGNER_MNEMONIC_FILE`,
    );
  }
  const mnemonic =
    seed.mnemonicFile === undefined
      ? newMnemonic(randomBytes(32))
      : readFileSync(seed.mnemonicFile, 'utf8').trim();
  const keys = keyTree(secp256k1, seedOf(mnemonic), network);
  if (known !== undefined && !equalBytes(known.nodeId, keys.nodeId))
    throw new SeedError('these words are not the seed of this database');
  writeSeedFile(seed.file, sealMnemonic(mnemonic, secret, { salt: randomBytes(16), nonce: randomBytes(12) }));
  return keys;
}
