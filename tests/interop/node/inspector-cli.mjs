// The MCP Inspector's command line. Each invocation connects, does one thing and closes.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { SECRET, packageVersion } from './lib.mjs';

const LAUNCHER = fileURLToPath(new URL('node_modules/.bin/mcp-inspector', import.meta.url));
// It keeps a catalog and secrets in its user's home.
const home = mkdtempSync(`${tmpdir()}/mcp-inspector-`);
process.on('exit', () => rmSync(home, { recursive: true, force: true }));

/** Its exit code when the result says `isError`; the result is printed as well. */
const TOOL_REPORTED_AN_ERROR = 5;

/** The standard output of one invocation; `transport` is `sse` or `http`. */
export async function inspect(url, transport, method, ...args) {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [LAUNCHER, '--cli', url, '--transport', transport, '--header', `Authorization: Bearer ${SECRET}`,
      '--stored-auth-only', '--format', 'json', '--method', method, ...args],
    { env: { ...process.env, HOME: home }, timeout: 30_000, maxBuffer: 1 << 24 },
  ).catch(error => {
    if (error.code === TOOL_REPORTED_AN_ERROR) return error;
    throw new Error(error.stderr || error.message);
  });
  return stdout;
}

export const inspectorName = () => `inspector-cli ${packageVersion('@modelcontextprotocol/inspector')}`;
