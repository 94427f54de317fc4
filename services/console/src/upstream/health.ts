/** The standard health check (grpc.health.v1), whose two tiny messages are coded here by hand. */
import { type RpcConnector, RpcError } from '@fulmen/rpc';

export type HealthStatus = 'serving' | 'not serving' | 'unreachable';

const SERVING = 1;
const FIELD_STATUS = 0x08;

/** Buffers, because grpc-js copies with their methods. HealthCheckRequest with an empty service name is empty; HealthCheckResponse is one enum in field 1. */
export const HealthService = {
  check: {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: (_value: Record<never, never>): Buffer => Buffer.alloc(0),
    requestDeserialize: (_bytes: Buffer): Record<never, never> => ({}),
    responseSerialize: ({ status }: { status: number }): Buffer => Buffer.of(FIELD_STATUS, status),
    responseDeserialize: (bytes: Buffer): { status: number } => ({
      status: bytes[0] === FIELD_STATUS ? (bytes[1] ?? 0) : 0,
    }),
  },
} as const;

/** Asks one address; never rejects. */
export async function checkHealth(
  connector: RpcConnector,
  address: string,
  deadlineMs: number,
): Promise<{ status: HealthStatus; detail: string }> {
  try {
    const { status } = await connector.client(HealthService, address).check({}, { deadlineMs });
    return status === SERVING
      ? { status: 'serving', detail: '' }
      : { status: 'not serving', detail: 'it is starting or stopping' };
  } catch (error) {
    const code = error instanceof RpcError ? error.code : 'unknown';
    if (code === 'deadline_exceeded')
      return { status: 'unreachable', detail: `no answer within ${deadlineMs} ms` };
    if (code === 'unavailable') return { status: 'unreachable', detail: 'nobody answers there' };
    return { status: 'unreachable', detail: error instanceof Error ? error.message.slice(0, 200) : code };
  }
}
