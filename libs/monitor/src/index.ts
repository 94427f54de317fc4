export * from './update.ts';
