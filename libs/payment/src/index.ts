/** Payments: finding routes, learning from attempts, and the policies for forwarded and final HTLCs. */
export * from './attempt.ts';
export * from './fee.ts';
export * from './finalHopPolicy.ts';
export * from './findRoute.ts';
export * from './forwardPolicy.ts';
export * from './mppSet.ts';
export * from './route.ts';
export * from './scorer.ts';
export * from './splitRoute.ts';
export * from './invoiceParameters.ts';
export * from './lessons.ts';
export * from './spontaneousParameters.ts';
