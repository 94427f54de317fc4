/** The peer gateway, to compose in a process, a test or a simulation. */
export { type GatewayConfig, gatewayConfig, signerIdentity } from './config.ts';
export { DEFAULT_LIMITS, type GatewayLimits } from './limits.ts';
export { CHAIN_HASHES } from './peer/init.ts';
export { nodeSockets } from './socket/node.ts';
export type { Socket, SocketAddress, SocketListener, SocketPort } from './socket/port.ts';
export { type RunningGateway, start, type StartPorts } from './start.ts';
