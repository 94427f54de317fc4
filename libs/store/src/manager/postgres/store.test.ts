import { managerStoreCompliance } from '../compliance.ts';
import { makePostgresManagerDatabase } from './testing.ts';

managerStoreCompliance('postgres', makePostgresManagerDatabase);
