// What a browser does in an OAuth flow: from the authorization URL it follows redirects, with cookies, until one
// leads back to the client.
//
// As a program it is the browser that a client opens: `node browser.mjs URL`. It goes back to the client, too.

import assert from 'node:assert/strict';
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** More than login, consent and the way back take. */
const MAX_REDIRECTS = 10;

/**
 * The address that leads back to the client, with the code in it. `account` is who logs in; without it the
 * authorization server decides.
 */
export async function authorize(url, account) {
  const redirectUri = new URL(url).searchParams.get('redirect_uri');
  assert.ok(redirectUri, `no redirect_uri in ${url}`);
  const cookies = new Map(account ? [['account', account]] : []);
  let at = new URL(url);
  for (let redirects = 0; redirects < MAX_REDIRECTS; redirects++) {
    const cookie = [...cookies].map(pair => pair.join('=')).join('; ');
    const response = await fetch(at, { redirect: 'manual', headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      cookies.set(name, value);
    }
    const location = response.headers.get('location');
    const text = await response.text();
    assert.ok(location, `HTTP ${response.status} from ${at.pathname}: ${text.slice(0, 200)}`);
    at = new URL(location, at);
    if (at.href.startsWith(redirectUri)) {
      assert.ok(at.searchParams.has('code'), `no code: ${at.search}`);
      return at;
    }
  }
  throw new Error(`no way back to the client after ${MAX_REDIRECTS} redirects`);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const back = await authorize(process.argv[2], process.env.BROWSER_ACCOUNT);
  const response = await fetch(back);
  await response.text();
  assert.ok(response.ok, `the client answered ${response.status}`);
}
