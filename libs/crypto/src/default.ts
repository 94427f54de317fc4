/** The curve for a deployable to hand to its libraries: native where it loads, else the reference. */
import { nativeSecp256k1 } from './native.ts';
import { nobleSecp256k1 } from './noble.ts';
import type { Secp256k1 } from './secp256k1.ts';

export const secp256k1: Secp256k1 = nativeSecp256k1 ?? nobleSecp256k1;
