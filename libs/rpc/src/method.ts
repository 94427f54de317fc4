import type { MethodDefinition, ServiceDefinition } from './transport.ts';

/** A generated method with its types forgotten: messages are `unknown` between two codecs that know them. */
export type AnyMethod = MethodDefinition<unknown, unknown>;

/** The methods of a generated service definition, by name. */
export function methodsOf(definition: object): [name: string, method: AnyMethod][] {
  return Object.entries(definition as ServiceDefinition as unknown as Record<string, AnyMethod>);
}

/** "/fulmen.signer.v1.SignerService/Ecdh" → "fulmen.signer.v1.SignerService". */
export function serviceNameOf(definition: object): string {
  const first = methodsOf(definition)[0];
  return first === undefined ? '' : (first[1].path.split('/')[1] ?? '');
}
