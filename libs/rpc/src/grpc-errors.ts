import { Metadata, status } from '@grpc/grpc-js';
import { asRpcError } from './memory.ts';
import { type RpcCode, RpcError } from './transport.ts';

const CODES: Readonly<Record<RpcCode, status>> = {
  cancelled: status.CANCELLED,
  unknown: status.UNKNOWN,
  invalid_argument: status.INVALID_ARGUMENT,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  permission_denied: status.PERMISSION_DENIED,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  failed_precondition: status.FAILED_PRECONDITION,
  aborted: status.ABORTED,
  out_of_range: status.OUT_OF_RANGE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
  unavailable: status.UNAVAILABLE,
  data_loss: status.DATA_LOSS,
  unauthenticated: status.UNAUTHENTICATED,
};
const NAMES = new Map<status, RpcCode>(Object.entries(CODES).map(([name, code]) => [code, name as RpcCode]));

/** gRPC trailers longer than this are cut: an error is a sentence, not a document. */
const MAX_DETAIL_LENGTH = 1000;

export function toMetadata(values: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(values)) metadata.set(key, value);
  return metadata;
}

export function fromMetadata(metadata: Metadata | undefined): Record<string, string> {
  const values: Record<string, string> = {};
  if (metadata === undefined) return values;
  for (const [key, value] of Object.entries(metadata.getMap()))
    if (typeof value === 'string') values[key] = value;
  return values;
}

/** What grpc-js sends for an error of a handler. */
export function toStatus(error: unknown): { code: status; details: string; metadata: Metadata } {
  const rpc = asRpcError(error);
  return {
    code: CODES[rpc.code],
    details: rpc.message.slice(0, MAX_DETAIL_LENGTH),
    metadata: toMetadata(rpc.metadata),
  };
}

/** An RpcError of what grpc-js reports to a caller. */
export function fromServiceError(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
    const details = 'details' in error && typeof error.details === 'string' ? error.details : error.message;
    const metadata =
      'metadata' in error && error.metadata instanceof Metadata ? fromMetadata(error.metadata) : {};
    return new RpcError(NAMES.get(error.code) ?? 'unknown', details, metadata);
  }
  return asRpcError(error);
}
