// The page for those who use the servers: its tabs, what the address says, and the keys that were given.

import { Connect } from './connect.js';
import { Console } from './console.js';
import { plain } from './text.js';
import { failureOf, unreachable } from './stream.js';
import { Fence, Notice, TabPanel, Tabs, announce, html, render, useEffect, useState } from './ui.js';

/**
 * In memory only: for a server, the one that was given for it, else the one for all. Where a server needs one the gateway takes
 * it; from elsewhere it might go on to whoever is behind the gateway, so it is not sent there.
 */
class Keys {
  #all;
  #some = new Map();

  of({ name, needs }) {
    return needs ? this.#some.get(name) ?? this.#all : undefined;
  }

  get all() {
    return this.#all;
  }

  set({ name }, key) {
    this.#some.set(name, key);
  }

  /** The key opens what the one before did, and more. */
  setCommon(key) {
    this.#all = key;
  }

  setAll(key) {
    this.#all = key;
    this.#some.clear();
  }
}

const keys = new Keys();

async function fetchListing(key = keys.all) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const response = await fetch(new URL('./servers.json', import.meta.url), { headers, cache: 'no-store', redirect: 'manual' })
    .catch(error => { throw unreachable('Asking what is served', error); });
  // A refused key shows the same as none.
  if (response.status === 401) return { version: '', public_url: null, locked: true, servers: [] };
  if (!response.ok) throw await failureOf('Asking what is served', response);
  const listing = await response.json();
  return { ...listing, servers: Array.isArray(listing.servers) ? listing.servers : [] };
}

/** What the address says: `#console/NAME`. */
function readHash() {
  const [tab, name] = location.hash.slice(1).split('/');
  try {
    return { tab: tab === 'console' ? 'console' : 'connect', name: name === undefined ? undefined : decodeURIComponent(name) };
  } catch {
    return { tab: 'connect', name: undefined };
  }
}

function App() {
  const [listing, setListing] = useState(undefined);
  const [error, setError] = useState(undefined);
  const [place, setPlace] = useState(readHash());
  const [connect, setConnect] = useState(0);
  const [keyTried, setKeyTried] = useState(0);
  const load = async () => {
    setError(undefined);
    try {
      const found = await fetchListing();
      setListing(found);
      return found;
    } catch (failure) {
      setError(failure);
      return undefined;
    }
  };
  useEffect(() => {
    load();
    const onHash = () => setPlace(readHash());
    addEventListener('hashchange', onHash);
    addEventListener('popstate', onHash);
    // By its link it would change the address, which says which tab is shown.
    document.querySelector('.skip').addEventListener('click', event => {
      event.preventDefault();
      document.querySelector('main').focus();
    });
    return () => {
      removeEventListener('hashchange', onHash);
      removeEventListener('popstate', onHash);
    };
  }, []);

  const go = (tab, name = place.name) => {
    const hash = `#${tab}${tab === 'console' && name !== undefined ? `/${encodeURIComponent(name)}` : ''}`;
    if (location.hash !== hash) history.pushState(null, '', hash);
    setPlace({ tab, name });
  };
  const giveKey = async key => {
    const before = listing?.servers.length ?? 0;
    keys.setAll(key);
    const found = await load();
    setKeyTried(tried => tried + 1);
    const more = (found?.servers.length ?? 0) - before;
    // Otherwise what is wrong stands at the field, and is told there.
    if (more > 0) announce(`${more} more ${more === 1 ? 'server' : 'servers'}`);
  };
  /** A key that was asked for by one server is that one's, until the gateway itself shows more with it. */
  const giveKeyFor = async (server, key) => {
    keys.set(server, key);
    const [before, found] = await Promise.all([fetchListing(), fetchListing(key)]).catch(() => []);
    if (!found || keys.of(server) !== key) return;
    const has = (list, { name }) => list.servers.some(one => one.name === name);
    const isMore = found.servers.some(one => one.needs && !has(before, one));
    if (!isMore || ![server, ...before.servers].every(one => has(found, one))) return;
    keys.setCommon(key);
    setListing(found);
  };
  const forget = () => {
    keys.setAll(undefined);
    load();
    announce('The key is forgotten');
  };
  const tryIt = server => {
    go('console', server.name);
    setConnect(n => n + 1);
    document.querySelector('main').focus();
  };
  useEffect(() => {
    document.title = `${place.tab === 'console' ? `Console${place.name ? ` – ${plain(place.name, 40)}` : ''}`
      : 'Connect'} – mcp-sse`;
  }, [place]);

  const tabs = [{ id: 'connect', label: 'Connect' }, { id: 'console', label: 'Console' }];
  return html`
    <header class="top">
      <span class="brand"><img src=${new URL('./icon.svg', import.meta.url).pathname} alt="" width="26"
        height="26" />mcp-sse</span>
      <${Tabs} id="page" label="Pages" tabs=${tabs} selected=${place.tab} onSelect=${tab => go(tab)} />
      <span class="push"></span>
      ${listing?.version && html`<span class="version hint">${plain(listing.version, 30)}</span>`}
    </header>
    <main id="main" tabindex="-1">
      <${TabPanel} id="page" name="connect" selected=${place.tab} class="page connect">
        <${Fence}><${Connect} listing=${listing} error=${error} hasKey=${Boolean(keys.all)} keyTried=${keyTried} onKey=${giveKey}
          onForget=${forget} onTry=${tryIt} onRetry=${load} /></${Fence}>
      </${TabPanel}>
      <${TabPanel} id="page" name="console" selected=${place.tab} class="page console">
        ${!listing && error && html`<${Notice} kind="error" title="The list of servers did not come">
          <p>It is asked for again under Connect.</p></${Notice}>`}
        ${listing && html`<${Fence}>
          <${Console} servers=${listing.servers} locked=${listing.locked}
          onGiveKey=${() => { go('connect'); document.querySelector('main').focus(); }} keys=${keys}
          onKey=${giveKeyFor} wanted=${{ name: place.name, connect }} onChoose=${name => go('console', name)} /></${Fence}>`}
      </${TabPanel}>
    </main>`;
}

render(html`<${App} />`, document.getElementById('app'));
