/** A database that says it is damaged ends the process that asked, whichever of its calls it was: also one that is caught. */
import { UnrecoverableStoreError } from './error.ts';

/** The same store; `failed` is told of each UnrecoverableStoreError that one of its calls rejects with. */
export function heedDamage<T extends object>(store: T, failed: (error: UnrecoverableStoreError) => void): T {
  return new Proxy(store, {
    get: (target, key) => {
      const member: unknown = Reflect.get(target, key, target);
      if (typeof member !== 'function') return member;
      return (...values: unknown[]): unknown => {
        const result: unknown = Reflect.apply(member, target, values);
        if (result instanceof Promise) {
          result.catch((error: unknown) => {
            if (error instanceof UnrecoverableStoreError) failed(error);
          });
        }
        return result;
      };
    },
  });
}
