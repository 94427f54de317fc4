// A Lightning wallet that nobody of this project wrote: LDK from npm, driven by JSON lines on stdin
// and stdout (see protocol.ts). Interop and end-to-end tests use it as the node's customers.
//
//   main.ts --data DIR --chain http://user:password@127.0.0.1:18443 [--listen PORT] [--no-anchors]
//           [--handshake JSON] [--offline] [--poll-ms 250] [--log-level 3]
//
// It ends when stdin ends, so that it never outlives the test that started it.
import readline from 'node:readline';
import { parseArgs } from 'node:util';
import { initializeLdk } from './ldk.ts';
import { methods } from './methods.ts';
import { Node } from './node.ts';
import { decodeLine, encodeLine, type Handshake, type WalletMethod, type WalletMethods } from './protocol.ts';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    chain: { type: 'string' },
    listen: { type: 'string' },
    handshake: { type: 'string', default: '{}' },
    'no-anchors': { type: 'boolean', default: false },
    offline: { type: 'boolean', default: false },
    'poll-ms': { type: 'string', default: '250' },
    'log-level': { type: 'string', default: '3' },
  },
});

if (values.data === undefined || values.chain === undefined) {
  process.stderr.write(
    'usage: main.ts --data DIR --chain URL [--listen PORT] [--no-anchors] [--handshake JSON] [--offline] [--poll-ms N] [--log-level N]\n',
  );
  process.exit(2);
}

function say(value: unknown): void {
  process.stdout.write(`${encodeLine(value)}\n`);
}

await initializeLdk();
const node = await Node.start({
  dataDir: values.data,
  chainUrl: values.chain,
  ...(values.listen === undefined ? {} : { listenPort: Number(values.listen) }),
  anchors: !values['no-anchors'],
  handshake: decodeLine(values.handshake) as Handshake,
  offline: values.offline,
  pollMs: Number(values['poll-ms']),
  logLevel: Number(values['log-level']),
  onEvent: say,
});

let stopping = false;
async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  await node.stop();
  process.exit(0);
}

type Request = { readonly id: number; readonly method: WalletMethod; readonly params?: unknown };

async function answer(line: string): Promise<void> {
  let request: Request;
  try {
    request = decodeLine(line) as Request;
  } catch {
    say({ event: 'error', text: 'a request is one line of JSON' });
    return;
  }
  const { id, method } = request;
  const handler = Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (handler === undefined) {
    say({ id, error: `there is no method ${method}` });
    return;
  }
  try {
    const params = (request.params ?? {}) as WalletMethods[typeof method]['params'];
    say({ id, result: await handler(node, params as never) });
    if (method === 'stop') await stop();
    else node.wake();
  } catch (error) {
    say({ id, error: error instanceof Error ? error.message : String(error) });
  }
}

const requests = readline.createInterface({ input: process.stdin });
requests.on('line', (line) => void answer(line));
requests.on('close', () => void stop());
process.on('SIGTERM', () => void stop());
process.on('SIGINT', () => void stop());

say({ event: 'ready', ready: true, nodeId: node.nodeId, port: node.port });
