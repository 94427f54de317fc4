/** The development chain: regtest in this process or behind Bitcoin Core's RPC. */
export { DevChain } from './devchain.ts';
export type { DevChainOptions } from './devchain.ts';
export type { PackageVerdict, TransactionVerdict } from './packages.ts';
export { DevChainConfigError, startDevChain } from './start.ts';
export type { RunningDevChain, StartDevChainOptions } from './start.ts';
export { startEsploraFront } from './esplora-front.ts';
export type { EsploraAnswer, EsploraFrontOptions, RunningEsploraFront } from './esplora-front.ts';
export { MemoryChainSource } from './memory-chain-source.ts';
export { MemoryFilteredSource } from './memory-filtered-source.ts';
export { Rejection, storeRawTx, storeTx } from './model.ts';
export type { BlockNode, Coin, StoredTx } from './model.ts';
export { DEFAULT_POLICY } from './policy.ts';
export type { MempoolPolicy } from './policy.ts';
export { trustScripts, verifyScripts } from './script-check.ts';
