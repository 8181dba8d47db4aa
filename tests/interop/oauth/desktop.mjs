// A user's computer for a client that is a program of its own: a home, and a browser that logs in by itself.

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BROWSER = fileURLToPath(new URL('browser.mjs', import.meta.url));

export class Desktop {
  home = mkdtempSync(join(tmpdir(), 'mcp-oauth-'));
  #visits = join(this.home, 'visits');

  constructor() {
    process.on('exit', () => rmSync(this.home, { recursive: true, force: true }));
    // Some run `xdg-open`, and the real one runs $BROWSER.
    const opener = join(this.home, 'xdg-open');
    writeFileSync(opener, `#!/bin/sh\necho "$1" >> '${this.#visits}'\nexec '${process.execPath}' '${BROWSER}' "$1"\n`);
    chmodSync(opener, 0o755);
    // Nothing else of this machine's environment: it may hold settings, or keys, of the same programs.
    this.env = {
      HOME: this.home, TMPDIR: this.home, PATH: `${this.home}:${process.env.PATH}`, BROWSER: opener, LANG: 'C.UTF-8',
    };
  }

  /** The addresses that the browser was opened with. */
  get visits() {
    return existsSync(this.#visits) ? readFileSync(this.#visits, 'utf8').trim().split('\n') : [];
  }
}
