/** Comparison of secrets (authentication tags, preimages) whose time does not tell where they differ. */
import { timingSafeEqual } from 'node:crypto';

/** True if both hold the same bytes. Time depends on the lengths alone. */
export function constantTimeEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
