/** The signer as a process. */
import { runService } from '@fulmen/service';
import { startProcess } from './open-ports.ts';

runService('signer', startProcess);
