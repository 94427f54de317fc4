/**
 * A port of promises (a store, a marker) seen from a simulated process: each
 * call travels to it and its answer travels back, so that a crash falls
 * before or after its effect, and faults can lose the call or the answer.
 */
import type { Incarnation } from './incarnation.ts';
import type { Scheduler } from './scheduler.ts';

/** What a call meets: its effect happens unless it is 'before'. */
export type CallFault = { readonly at: 'before' | 'after'; readonly error: Error };

export interface CallConditions {
  /** Milliseconds that one way takes. */
  readonly latencyMs: () => number;
  readonly faultOf: (operation: string) => CallFault | undefined;
}

/** The same port, for one incarnation. What is no method passes through. */
export function simulatedCalls<P extends object>(
  port: P,
  name: string,
  process: Incarnation,
  scheduler: Scheduler,
  conditions: CallConditions,
): P {
  const call = async (operation: string, run: () => unknown): Promise<unknown> => {
    const label = `${process.name} ${name}.${operation}`;
    const fault = conditions.faultOf(operation);
    await scheduler.delay(conditions.latencyMs(), label);
    if (fault?.at === 'before') {
      await scheduler.delay(conditions.latencyMs(), `${label} fails`);
      throw fault.error;
    }
    // A refusal travels back like an answer.
    const outcome = await Promise.resolve(run()).then(
      (value) => ({ ok: true, value }) as const,
      (error: unknown) => ({ ok: false, error }) as const,
    );
    await scheduler.delay(conditions.latencyMs(), `${label} answers`);
    if (fault !== undefined) throw fault.error;
    if (!outcome.ok) throw outcome.error;
    return outcome.value;
  };
  return new Proxy(port, {
    get: (target, property) => {
      const member: unknown = Reflect.get(target, property, target);
      if (typeof member !== 'function' || typeof property !== 'string') return member;
      return (...given: unknown[]) =>
        process.guard(call(property, () => Reflect.apply(member, target, given)));
    },
  });
}
