/**
 * The development chain as a process. Configuration comes from the
 * environment: FULMEN_DEVCHAIN_PORT (0 takes a free one), _DATA_DIR (in
 * memory when unset), _RPC_USER, _RPC_PASSWORD, _HOST, _NETWORK (regtest
 * only), _DUST_RELAY_FEERATE and _MIN_RELAY_FEERATE (sat per 1000 vbytes).
 * Prints one line of JSON when it listens; stops on SIGTERM, SIGINT or the
 * RPC `stop`.
 */
import { startDevChain } from '@fulmen/testing/devchain/start';

function feerate(name: string): number | undefined {
  const text = process.env[name];
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new RangeError(`${name} must be a whole number of satoshis per 1000 vbytes`);
  return value;
}

const env = process.env;
const dustRelayFeerateSatPerKvb = feerate('FULMEN_DEVCHAIN_DUST_RELAY_FEERATE');
const minRelayFeerateSatPerKvb = feerate('FULMEN_DEVCHAIN_MIN_RELAY_FEERATE');
const dataDir = env['FULMEN_DEVCHAIN_DATA_DIR'];
const host = env['FULMEN_DEVCHAIN_HOST'];

const node = await startDevChain({
  port: Number(env['FULMEN_DEVCHAIN_PORT'] ?? '18443'),
  rpcUser: env['FULMEN_DEVCHAIN_RPC_USER'] ?? '',
  rpcPassword: env['FULMEN_DEVCHAIN_RPC_PASSWORD'] ?? '',
  network: env['FULMEN_DEVCHAIN_NETWORK'] ?? 'regtest',
  ...(dataDir === undefined || dataDir === '' ? {} : { dataDir }),
  ...(host === undefined || host === '' ? {} : { host }),
  policy: {
    ...(dustRelayFeerateSatPerKvb === undefined ? {} : { dustRelayFeerateSatPerKvb }),
    ...(minRelayFeerateSatPerKvb === undefined
      ? {}
      : { minRelayFeerateSatPerKvb, incrementalRelayFeerateSatPerKvb: minRelayFeerateSatPerKvb }),
  },
});

process.stdout.write(
  `${JSON.stringify({ ready: true, network: 'regtest', host: node.host, port: node.port, height: node.devChain.chain.tip.height, pid: process.pid })}\n`,
);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void node.stop());
await node.stopped;
