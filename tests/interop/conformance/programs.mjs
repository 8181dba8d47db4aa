// Starting what says on stdout where it listens, and ending all of it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const START_MS = 20_000;
const running = new Set();

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => end().finally(() => process.exit(1)));

/** Starts a program, and resolves to what `found` makes of the first line of which it makes something. */
export async function start(command, args, found) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  const lines = createInterface({ input: child.stdout });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${command} did not say where it listens`)), START_MS);
    // What it says later is read too, so that the pipe does not fill.
    lines.on('line', line => {
      const it = found(line);
      if (it === undefined) return;
      clearTimeout(timer);
      resolve(it);
    });
    child.once('error', reject);
    child.once('exit', code => reject(new Error(`${command} ended with ${code} before it listened`)));
  });
}

/** Ends all that were started, and waits for them: a gateway ends its servers first. */
export async function end() {
  await Promise.all([...running].map(async child => {
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
    await once(child, 'exit');
    clearTimeout(timer);
  }));
}

/**
 * A gateway with these arguments: its URLs for either transport. It names the server behind it too, whose URL would pass
 * every check without a gateway.
 */
export async function gateway(program, args) {
  const line = /^ +Streamable HTTP +(http:\S+)\/mcp$/;
  const origin = await start(program, ['serve', '--port', '0', '--log-level', 'warn', ...args], said => line.exec(said)?.[1]);
  const health = await fetch(`${origin}/healthz`);
  if (!health.ok) throw new Error(`${origin} is no gateway: /healthz is ${health.status}`);
  return { sse: `${origin}/sse`, http: `${origin}/mcp` };
}
