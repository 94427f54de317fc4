import { socketCompliance } from '@fulmen/testing/socket.compliance';
import { nodeSockets } from './node.ts';

socketCompliance('TCP', () => ({
  server: nodeSockets(),
  client: nodeSockets(),
  address: { host: '127.0.0.1', port: 0 },
}));
