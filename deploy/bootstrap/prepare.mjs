// Makes a checkout able to run: Node 26, the packages, the generated protocol code.
//
// Plain JavaScript for Node 20 and newer with no dependency, because it runs before anything is
// installed. Everything it fetches goes into the checkout (`.fulmen/tools`, `node_modules`), so no
// global install and no special user is needed. Each part is a check that costs a millisecond when
// there is nothing to do, and a step under one lock when there is.
import { spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const stateDir = path.join(root, '.fulmen');
const toolsDir = path.join(stateDir, 'tools');

// Exact versions: a fresh clone of the same commit runs the same tools.
const NODE_MAJOR = 26;
const NODE_VERSION = '26.10.0';
const PNPM_VERSION = '12.21.0';

/** A failure whose message is a sentence for the person at the terminal; no stack is shown. */
export class BootstrapError extends Error {}

/**
 * Prepares the checkout.
 * @param {{ quiet?: boolean, skipProto?: boolean }} options quiet: say nothing unless something must
 *   be fetched; skipProto: the caller is the generator itself.
 * @returns {Promise<string>} the path of a Node of major version 26 or newer
 */
export async function prepare(options = {}) {
  const steps = [nodeStep(), packagesStep()];
  const isDone = () => steps.every((step) => step.done()) && (options.skipProto || protoStep.done());
  if (isDone()) {
    linkBin();
    return nodePath();
  }
  makeWritableDir(toolsDir);
  await withLock(path.join(stateDir, 'bootstrap.lock'), async () => {
    // Another run may have finished the work while this one waited, so each step asks again.
    for (const step of steps) if (!step.done()) await step.run();
    if (!options.skipProto && !protoStep.done()) await protoStep.run();
  });
  linkBin();
  return nodePath();
}

// ---------------------------------------------------------------------------------------------
// Node

const ownNodeIsEnough = Number(process.versions.node.split('.')[0]) >= NODE_MAJOR;

function nodePath() {
  if (ownNodeIsEnough) return process.execPath;
  return path.join(
    nodeHome(),
    'node_modules',
    nodePackage(),
    'bin',
    process.platform === 'win32' ? 'node.exe' : 'node',
  );
}

function nodeHome() {
  return path.join(toolsDir, `node-${NODE_VERSION}-${process.platform}-${process.arch}`);
}

function nodePackage() {
  return `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
}

function nodeStep() {
  return {
    done: () => fs.existsSync(nodePath()),
    run: async () => {
      say(`getting Node ${NODE_VERSION} (this machine has ${process.versions.node}; once for this checkout)`);
      await installTool(nodeHome(), `${nodePackage()}@${NODE_VERSION}`);
      const check = await capture(nodePath(), ['--version']).catch((error) => ({
        code: 1,
        output: String(error),
      }));
      if (check.code !== 0) {
        fs.rmSync(nodeHome(), { recursive: true, force: true });
        throw new BootstrapError(
          `Node ${NODE_VERSION} from npm does not run on this ${process.platform}-${process.arch} machine ` +
            `(it needs glibc on Linux). Install Node ${NODE_MAJOR} or newer yourself, then run this again.`,
        );
      }
    },
  };
}

// ---------------------------------------------------------------------------------------------
// Packages

const packagesStamp = path.join(root, 'node_modules', '.fulmen-stamp');

function packagesHash() {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}\n`);
  for (const name of ['pnpm-lock.yaml', 'pnpm-workspace.yaml']) {
    hash.update(readOr(path.join(root, name), ''));
  }
  return hash.digest('hex');
}

function packagesStep() {
  return {
    done: () => readOr(packagesStamp, '') === packagesHash(),
    run: async () => {
      const hash = packagesHash();
      const pnpmHome = path.join(toolsDir, `pnpm-${PNPM_VERSION}-${process.platform}-${process.arch}`);
      const pnpm = path.join(pnpmHome, 'node_modules', 'pnpm', 'bin', 'pnpm.mjs');
      if (!fs.existsSync(pnpm)) {
        say(`getting pnpm ${PNPM_VERSION}`);
        await installTool(pnpmHome, `pnpm@${PNPM_VERSION}`);
      }
      say('installing the packages that pnpm-lock.yaml names (once, and after it changes)');
      const args = [
        pnpm,
        'install',
        '--frozen-lockfile',
        '--prefer-offline',
        '--config.confirmModulesPurge=false',
      ];
      const { code, output } = await follow(nodePath(), args, { cwd: root, env: toolEnv() });
      if (code !== 0) throw explain('pnpm could not install the packages', output);
      fs.writeFileSync(packagesStamp, hash);
    },
  };
}

/** `npx fulmen` must find the checkout's own command without installing anything. */
function linkBin() {
  const link = path.join(root, 'node_modules', '.bin', 'fulmen');
  if (process.platform === 'win32') return;
  try {
    fs.lstatSync(link);
  } catch {
    try {
      fs.mkdirSync(path.dirname(link), { recursive: true });
      fs.chmodSync(path.join(root, 'deploy', 'bootstrap', 'fulmen.mjs'), 0o755);
      fs.symlinkSync(path.join('..', '..', 'deploy', 'bootstrap', 'fulmen.mjs'), link);
    } catch {
      // Two runs may race here, or the checkout is another user's: the command still works by path.
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Protocol code

const protoGenerator = path.join(root, 'proto', 'generate.ts');
const protoStamp = path.join(root, 'proto', 'gen', '.fulmen-stamp');

const protoStep = {
  done: () => !fs.existsSync(protoGenerator) || readOr(protoStamp, '') === protoHash(),
  run: async () => {
    const hash = protoHash();
    say('generating code from proto/');
    const { code, output } = await capture(nodePath(), [protoGenerator], { cwd: root, env: toolEnv() });
    if (code !== 0) throw explain('The protocol code could not be generated', output);
    fs.mkdirSync(path.dirname(protoStamp), { recursive: true });
    fs.writeFileSync(protoStamp, hash);
  },
};

function protoHash() {
  const hash = createHash('sha256').update(readOr(protoGenerator, ''));
  const dir = path.join(root, 'proto');
  const visit = (folder) => {
    for (const entry of fs
      .readdirSync(folder, { withFileTypes: true })
      .sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const full = path.join(folder, entry.name);
      if (entry.isDirectory()) {
        if (entry.name !== 'node_modules' && !(folder === dir && entry.name === 'gen')) visit(full);
      } else if (entry.name.endsWith('.proto')) {
        hash.update(`${path.relative(dir, full)}\n`).update(fs.readFileSync(full));
      }
    }
  };
  visit(dir);
  return hash.digest('hex');
}

// ---------------------------------------------------------------------------------------------
// Tools

/** Installs one package with npm into a folder of its own; the folder appears only when complete. */
async function installTool(home, spec) {
  const temporary = `${home}.${process.pid}.part`;
  fs.rmSync(temporary, { recursive: true, force: true });
  makeWritableDir(temporary);
  fs.writeFileSync(path.join(temporary, 'package.json'), '{"private":true}\n');
  const npm = npmCommand();
  const args = [
    ...npm.args,
    'install',
    '--prefix',
    temporary,
    '--no-audit',
    '--no-fund',
    '--no-package-lock',
  ];
  args.push('--ignore-scripts', '--loglevel=error', spec);
  const { code, output } = await capture(npm.command, args, { cwd: temporary, env: process.env }, true);
  if (code !== 0) {
    fs.rmSync(temporary, { recursive: true, force: true });
    throw explain(`npm could not install ${spec}`, output);
  }
  fs.rmSync(home, { recursive: true, force: true });
  fs.renameSync(temporary, home);
}

function npmCommand() {
  // Under `npm start` npm says where it is; it is run by this Node, whatever PATH holds.
  const beside = path.join(
    path.dirname(process.execPath),
    '..',
    'lib',
    'node_modules',
    'npm',
    'bin',
    'npm-cli.js',
  );
  for (const cli of [process.env.npm_execpath, beside]) {
    if (cli && path.basename(cli) === 'npm-cli.js' && fs.existsSync(cli))
      return { command: process.execPath, args: [cli] };
  }
  return { command: process.platform === 'win32' ? 'npm.cmd' : 'npm', args: [] };
}

/** Environment for tools that start `node` themselves: they must find the new one first. */
function toolEnv() {
  const env = {
    ...process.env,
    PATH: `${path.dirname(nodePath())}${path.delimiter}${process.env.PATH ?? ''}`,
  };
  // Settings of the outer package manager's run must not steer the inner one.
  for (const name of Object.keys(env)) {
    if (/^npm_(config_(local_prefix|prefix|ignore_scripts|omit|production)|package_|lifecycle_)/i.test(name))
      delete env[name];
  }
  return env;
}

/** Runs a command with its output shown on stderr as it comes, and kept for an explanation. */
function follow(command, args, options) {
  return start(command, args, options, (text) => process.stderr.write(text));
}

/** Runs a command quietly; with `heartbeat`, a line now and then shows that work goes on. */
async function capture(command, args, options = {}, heartbeat = false) {
  const begun = Date.now();
  const seconds = () => Math.round((Date.now() - begun) / 1000);
  const timer = heartbeat ? setInterval(() => say(`  still downloading, ${seconds()} s`), 10_000) : undefined;
  try {
    return await start(command, args, options, () => {});
  } finally {
    clearInterval(timer);
  }
}

function start(command, args, options, onText) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const take = (chunk) => {
      const text = chunk.toString('utf8');
      output = (output + text).slice(-20_000);
      onText(text);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', (error) => {
      if (error.code === 'ENOENT') {
        reject(
          new BootstrapError(
            `${command} was not found. It comes with Node: install Node 20 or newer with npm.`,
          ),
        );
      } else reject(error);
    });
    child.on('close', (code, signal) => resolve({ code: code ?? 1, signal, output }));
  });
}

/** A container may run as a user that has no name. */
function userName() {
  try {
    return os.userInfo().username;
  } catch {
    return `uid ${process.getuid?.()}`;
  }
}

/** Turns a tool's output into a sentence that says what to do. */
export function explain(what, output) {
  const tail = output.trim().split('\n').slice(-12).join('\n');
  let advice = 'The end of its output:';
  if (/ENOSPC|no space left|disk quota/i.test(output)) {
    advice = `The disk is full: free about 1 GB for ${root} and for the package manager's cache, then run this again.`;
  } else if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|network|socket hang up/i.test(
      output,
    )
  ) {
    advice =
      'The package registry could not be reached: check the network (and proxy settings), then run this again.';
  } else if (/EACCES|EPERM|permission denied|EROFS/i.test(output)) {
    advice = `A folder is not writable for this user (${userName()}): run as the owner of ${root}.`;
  } else if (/ERR_PNPM_OUTDATED_LOCKFILE/.test(output)) {
    advice = 'pnpm-lock.yaml does not match a package.json: run `pnpm install` and commit the lock file.';
  }
  return new BootstrapError(`${what}. ${advice}\n\n${tail}`);
}

// ---------------------------------------------------------------------------------------------
// The lock: a file that its holder touches. It is stale when its process is gone, or, for another
// machine on a shared disk, when it was not touched for half a minute.

const LOCK_TOUCH_MS = 2_000;
const LOCK_STALE_MS = 30_000;

async function withLock(file, work) {
  const token = JSON.stringify({ pid: process.pid, host: os.hostname(), id: randomUUID() });
  let told = false;
  while (!tryLock(file, token)) {
    const holder = readLock(file);
    if (holder !== undefined && isStale(holder)) {
      // Taking it away by a rename makes sure that only one waiter does.
      const aside = `${file}.${randomUUID()}`;
      try {
        fs.renameSync(file, aside);
        const moved = readOr(aside, '');
        // Someone replaced the stale lock between the look and the rename: give it back.
        if (moved !== holder.text) fs.linkSync(aside, file);
      } catch {
        // Another waiter was faster.
      }
      fs.rmSync(aside, { force: true });
      continue;
    }
    if (!told) say('another run is preparing this checkout; waiting for it');
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const timer = setInterval(() => {
    try {
      fs.utimesSync(file, new Date(), new Date());
    } catch {
      // The lock was taken away; the work ends soon, and every step is safe to repeat.
    }
  }, LOCK_TOUCH_MS);
  const release = () => {
    clearInterval(timer);
    if (readOr(file, '') === token) fs.rmSync(file, { force: true });
  };
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.removeListener('exit', release);
    release();
  }
}

function tryLock(file, token) {
  try {
    fs.writeFileSync(file, token, { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw explain('The lock file could not be written', String(error));
  }
}

function readLock(file) {
  try {
    const text = fs.readFileSync(file, 'utf8');
    const touchedMs = fs.statSync(file).mtimeMs;
    let owner = {};
    try {
      owner = JSON.parse(text);
    } catch {
      // Written this instant, or damaged: only its age counts.
    }
    return { text, touchedMs, pid: owner.pid, host: owner.host };
  } catch {
    return undefined;
  }
}

function isStale(holder) {
  if (holder.host === os.hostname() && typeof holder.pid === 'number') {
    try {
      process.kill(holder.pid, 0);
    } catch (error) {
      if (error.code === 'ESRCH') return true;
    }
  }
  return Date.now() - holder.touchedMs > LOCK_STALE_MS;
}

// ---------------------------------------------------------------------------------------------

function makeWritableDir(dir) {
  try {
    fs.mkdirSync(dir, { recursive: true });
    fs.accessSync(dir, fs.constants.W_OK);
  } catch (error) {
    throw explain(`The folder ${dir} cannot be used`, String(error));
  }
}

function readOr(file, otherwise) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return otherwise;
  }
}

function say(text) {
  process.stderr.write(`fulmen: ${text}\n`);
}
