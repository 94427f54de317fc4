/** The signer as a process: the node's, or (`FULMEN_SIGNER_MODE=justice`) a tower's. */
import { ConfigError, runService } from '@fulmen/service';
import { startJusticeProcess } from './justice/open-ports.ts';
import { startProcess } from './open-ports.ts';

runService('signer', (ports) => {
  const mode = ports.environment['FULMEN_SIGNER_MODE'] ?? 'node';
  if (mode !== 'node' && mode !== 'justice')
    throw new ConfigError('FULMEN_SIGNER_MODE: must be node or justice');
  return mode === 'justice' ? startJusticeProcess(ports) : startProcess(ports);
});
