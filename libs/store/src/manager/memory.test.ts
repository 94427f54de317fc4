import { managerStoreCompliance } from './compliance.ts';
import { MemoryManagerDatabase } from './memory.ts';

managerStoreCompliance('memory', () => {
  let nowMs = 1_000;
  const database = new MemoryManagerDatabase(() => nowMs);
  return Promise.resolve({
    connect: (replicaName) => database.connect(replicaName),
    expireLease: (replicaId) => {
      // Only this replica's lease ends: the others renew in the same moment.
      const leases = [...database.state.replicas].filter(([id]) => id !== replicaId);
      nowMs += 120_000;
      for (const [, replica] of leases) replica.leaseUntilMs += 120_000;
      return Promise.resolve();
    },
    reportFundingStatus: (channelId, status) => {
      database.reportFundingStatus(channelId, status);
      return Promise.resolve();
    },
    decideClose: (channelId, reason) => {
      database.decideClose(channelId, reason);
      return Promise.resolve();
    },
    drop: () => Promise.resolve(),
  });
});
