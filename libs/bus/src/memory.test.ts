import { busCompliance } from './bus.compliance.ts';
import { MemoryBusHub } from './memory.ts';

busCompliance('memory', () => {
  const hub = new MemoryBusHub();
  return Promise.resolve({
    connect: (name) => Promise.resolve(hub.connect(name)),
    stop: () => Promise.resolve(),
  });
});
