/** The port to the Bitcoin chain and its adapter for Bitcoin Core. Block hints and the compliance suite are imported by path. */
export * from './source.ts';
export * from './filter.ts';
export * from './blocks.ts';
export { BitcoindRpc } from './bitcoind-rpc.ts';
export type { BitcoindAuth, BitcoindRpcConfig, RpcCall, RpcFailure, RpcOutcome } from './bitcoind-rpc.ts';
export { BitcoindChainSource } from './bitcoind.ts';
export { EsploraChainSource } from './esplora.ts';
export type { EsploraConfig } from './esplora-http.ts';
