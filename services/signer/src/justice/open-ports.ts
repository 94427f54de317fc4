/** The ports of a real justice signer: its key file, gRPC with mutual TLS under the towers' own authority. */
import { secp256k1 } from '@fulmen/crypto/default';
import { Certificates, grpcServer } from '@fulmen/rpc';
import type { ProcessPorts, RunningService } from '@fulmen/service';
import { guardProcess } from '../process-guard.ts';
import { justiceConfig, readJusticeKey } from './config.ts';
import { startJusticeSigner } from './start.ts';

/** Starts the justice signer of this process. */
export async function startJusticeProcess(ports: ProcessPorts): Promise<RunningService> {
  guardProcess(ports.logger);
  const config = justiceConfig(ports.environment);
  const certificates = new Certificates(ports);
  const rpcServer = grpcServer({
    listenAddress: config.listenAddress,
    tls: await certificates.open(config.tls),
    onInternalError: (path, error) =>
      ports.logger.error({ path, err: error }, 'a request failed by a defect'),
  });
  const service = await startJusticeSigner(
    {
      secp: secp256k1,
      secret: readJusticeKey(secp256k1, config.keyFile, ports.runtime.randomBytes),
      destinationScript: config.destinationScript,
      maximumFeePercent: config.maximumFeePercent,
    },
    { ...ports, rpcServer },
  );
  return { ...service, stop: () => service.stop().finally(() => certificates.close()) };
}
