// The Console: choose a server, connect, and use what it has.

import { LEVELS, Session, isUnauthorized } from './session.js';
import { Asked, RootsForm } from './dialogs.js';
import { Prompts, Resources, Tools } from './primitives.js';
import { useStore } from './store.js';
import { clock, milliseconds, plain, plural } from './text.js';
import { BASE, Failure, Fence, Json, KeyForm, LongText, TabPanel, Tabs, Text, announce, html, useEffect, useId, useRef,
  useState } from './ui.js';
import { WireView } from './wire-log.js';
import { WireLog } from './wire.js';

export const titleOf = server => (server.name === '' ? 'the server' : server.name);

/**
 * `keys` has the key of a server, and `onKey(server, key)` takes one that the visitor gives for it. `wanted` is
 * `{ name, connect }`: which server is chosen, and whether somebody asked to connect to it at once.
 */
export function Console({ servers, locked, keys, wanted, onChoose, onGiveKey, onKey }) {
  const [session, setSession] = useState(undefined);
  const server = servers.find(({ name }) => name === wanted.name) ?? servers[0];
  const latest = useRef();
  latest.current = session;

  const connect = server => {
    latest.current?.disconnect();
    // Another server's messages are of no use with these.
    const wire = latest.current?.server.name === server.name ? latest.current.wire : new WireLog();
    const next = new Session({ server, url: BASE + server.sse.replace(/^\//, ''), token: keys.of(server) }, wire);
    if (latest.current?.server.name === server.name) next.inherit(latest.current);
    latest.current = next;
    setSession(next);
    next.connect();
  };
  useEffect(() => { if (wanted.connect && server) connect(server); }, [wanted.connect]);
  useEffect(() => {
    const leave = () => latest.current?.disconnect();
    addEventListener('pagehide', leave);
    return () => {
      removeEventListener('pagehide', leave);
      leave();
    };
  }, []);

  if (!server) return html`<div class="empty-state"><h2>${locked ? 'A key is needed' : 'Nothing to connect to'}</h2>
    <p>${locked ? 'The servers of this gateway are only for those who have a key.' : 'No server is served here yet.'}</p>
    ${locked && html`<p><button type="button" class="primary large" onClick=${onGiveKey}>Give a key</button></p>`}</div>`;
  const mine = session?.server.name === server.name ? session : undefined;
  return html`
    <h1 class="unseen">Console</h1>
    <${Bar} key=${server.name} servers=${servers} server=${server} session=${mine} onChoose=${onChoose}
      onConnect=${() => connect(server)} />
    ${mine ? html`<${Fence} key=${mine.url}><${Connected} session=${mine} onConnect=${() => connect(server)}
        onKey=${key => { onKey(server, key); connect(server); }} /></${Fence}>` : html`
      <div class="empty-state">
        <h2>Try ${titleOf(server) === 'the server' ? 'it' : html`<${Text} value=${titleOf(server)} max=${80} />`} here</h2>
        <p>This page becomes a client: it opens a session, shows what the server offers, and calls it.
          Nothing has to be installed.</p>
        <p><button type="button" class="primary large" onClick=${() => connect(server)}>Connect</button></p>
      </div>`}`;
}

function Bar({ servers, server, session, onChoose, onConnect }) {
  const id = useId();
  return html`<div class="console-bar">
    <div class="row">
      <label for=${id}>Server</label>
      <select id=${id} value=${server.name} onChange=${event => onChoose(event.currentTarget.value)}>
        ${servers.map(one => html`<option key=${one.name} value=${one.name}>${plain(titleOf(one), 80)}</option>`)}</select>
      ${session ? html`<${State} session=${session} onConnect=${onConnect} />` : html`<span class="pill">not connected</span>`}
    </div>
  </div>`;
}

const STATES = { connecting: 'connecting…', open: 'connected', broken: 'not connected', closed: 'disconnected' };

function State({ session, onConnect }) {
  useStore(session);
  const { state } = session;
  const isFirst = useRef(true);
  useEffect(() => {
    if (isFirst.current && state === 'connecting') announce('Connecting');
    else announce(STATES[state]);
    isFirst.current = false;
  }, [state]);
  const isOn = state === 'open' || state === 'connecting';
  return html`
    <span class=${`pill ${state}`}><span class="dot"></span>${STATES[state]}</span>
    ${isOn ? html`<button type="button" onClick=${() => session.disconnect()}>Disconnect</button>`
      : html`<button type="button" class="primary" onClick=${onConnect}>Connect again</button>`}
    ${state === 'open' && html`<span class="server-info hint">
      <${Text} value=${session.name} max=${80} /> ${typeof session.info.version === 'string'
      && html`<${Text} value=${session.info.version} max=${30} />`}</span>`}`;
}

function Connected({ session, onConnect, onKey }) {
  useStore(session);
  const [tab, setTab] = useState('tools');
  const { state, failure, lists } = session;
  const loaded = list => (list.state === 'empty' ? undefined : list.items.length.toLocaleString('en'));
  const resources = lists.resources.items.length + lists.templates.items.length;
  const tabs = [
    { id: 'tools', label: 'Tools', count: loaded(lists.tools) },
    { id: 'resources', label: 'Resources', count: lists.resources.state === 'empty' ? undefined
      : resources.toLocaleString('en') },
    { id: 'prompts', label: 'Prompts', count: loaded(lists.prompts) },
    { id: 'log', label: 'Log', count: session.logs.length ? session.logs.length.toLocaleString('en') : undefined },
    { id: 'session', label: 'Session' },
  ];
  const hasBegun = session.protocol !== '';
  const panel = name => ({ id: 'console', name, selected: tab });
  return html`
    ${state === 'broken' && (isUnauthorized(failure) && session.server.needs ? html`
      <div class="card narrow">
        <h2>This server needs a key</h2>
        <p>Its operator gives you one. With an authorization server, an access token works too.</p>
        <${KeyForm} key=${failure} onKey=${onKey} autofocus=${true} button="Connect"
          wrong=${session.token ? `That one was refused${failure.text ? `: ${plain(failure.text, 200)}` : '.'}` : ''} />
      </div>` : html`<${Failure} error=${failure} title=${hasBegun ? undefined : 'Connecting did not work'}>
        ${!hasBegun && failure.what && html`<p class="hint">${failure.what} failed.</p>`}
        ${isUnauthorized(failure) && html`<p class="hint">It is not the gateway that wants a key, but what is behind it.
          This page sends keys only to the gateway.</p>`}
        <p><button type="button" onClick=${onConnect}>
          ${hasBegun ? 'Connect with a new session' : 'Try again'}</button></p></${Failure}>`)}
    ${state === 'connecting'
      && html`<p class="hint loading" role="status">Opening a session. A program may take a moment to start.</p>`}
    <div class="console-grid">
      ${hasBegun ? html`<div class="console-main">
        <h2 class="unseen">What the server has</h2>
        <${Tabs} id="console" label="What the server has" tabs=${tabs} selected=${tab} onSelect=${setTab} small=${true} />
        <${TabPanel} ...${panel('tools')}><${Fence}>
          <${Tools} session=${session} onRead=${() => setTab('resources')} /></${Fence}></${TabPanel}>
        <${TabPanel} ...${panel('resources')}><${Fence}><${Resources} session=${session} /></${Fence}></${TabPanel}>
        <${TabPanel} ...${panel('prompts')}><${Fence}><${Prompts} session=${session} /></${Fence}></${TabPanel}>
        <${TabPanel} ...${panel('log')}><${Fence}><${Log} session=${session} /></${Fence}></${TabPanel}>
        <${TabPanel} ...${panel('session')}><${Fence}><${About} session=${session} /></${Fence}></${TabPanel}>
      </div>` : html`<div class="console-main"></div>`}
      <${WireView} wire=${session.wire} />
    </div>
    <${Fence}><${Asked} session=${session} /></${Fence}>`;
}

/** What the server logs. */
function Log({ session }) {
  const id = useId();
  const [error, setError] = useState();
  const { logs, logsDropped } = session;
  const setLevel = event => {
    const level = event.currentTarget.value;
    if (level) session.setLevel(level).then(() => setError(undefined), setError);
  };
  return html`
    <div class="row panel-head">
      ${session.can('logging') && html`<label for=${id}>From level</label>
        <select id=${id} value=${session.level} onChange=${setLevel}><option value="">the server’s choice</option>
          ${LEVELS.map(level => html`<option key=${level}>${level}</option>`)}</select>`}
      <span class="push"></span>
      ${logs.length > 0 && html`<button type="button" class="quiet" onClick=${() => session.clearLogs()}>Clear</button>`}
    </div>
    ${error && html`<${Failure} error=${error} />`}
    ${!logs.length && html`<p class="hint empty">
      ${session.can('logging') ? 'What the server logs appears here.' : 'This server does not send its log to clients.'}</p>`}
    <ol class="log-list">${logs.slice(-200).reverse().map(log => html`<li key=${log.n}>
      <span class="wire-time">${clock(log.time)}</span> <span class=${`tag level-${log.level}`}>
        <${Text} value=${log.level} max=${20} /></span>
      ${log.logger && html` <span class="hint"><${Text} value=${log.logger} /></span>`}
      <${LongText} value=${log.data} first=${500} class="log-text" /></li>`)}</ol>
    ${(logs.length > 200 || logsDropped > 0)
      && html`<p class="cut">The last 200 of ${plural(logs.length + logsDropped, 'message')} are shown.</p>`}`;
}

/** What is known of the session, and what the server may know of the visitor. */
function About({ session }) {
  const [ping, setPing] = useState('');
  const [error, setError] = useState();
  const askId = useId();
  const { info, protocol, instructions, capabilities, notes } = session;
  const doPing = () => session.ping().then(ms => {
    setError(undefined);
    setPing(milliseconds(ms));
    announce(`Answered after ${milliseconds(ms)}`);
  }, setError);
  return html`
    <dl class="facts">
      <div><dt>Server</dt><dd><${Text} value=${session.name || 'gives no name'} max=${200} /> <${Text}
        value=${typeof info.version === 'string' ? info.version : ''} max=${50} /></dd></div>
      <div><dt>Protocol</dt><dd><${Text} value=${protocol} max=${50} />, over HTTP+SSE</dd></div>
      <div><dt>Stream</dt><dd class="mono">${session.url}</dd></div>
      <div><dt>Ping</dt><dd><button type="button" onClick=${doPing}
        aria-disabled=${session.state === 'open' ? undefined : 'true'}>Ping</button> ${ping}</dd></div>
    </dl>
    ${error && html`<${Failure} error=${error} />`}
    ${instructions && html`<section class="block"><h3>Instructions</h3><p class="hint">What the server tells a client’s model.</p>
      <${LongText} value=${instructions} first=${700} class="boxed" /></section>`}
    <section class="block"><h3>Roots</h3>
      <p class="hint">The folders that the server is told it may work in, when it asks.</p>
      <${RootsForm} roots=${session.roots} submitLabel="Keep, and tell the server"
        onRoots=${roots => session.setRoots(roots, document.getElementById(askId).checked).then(() => announce('Kept'),
        setError)}>
        <div class="field check"><div class="check-row">
          <input type="checkbox" id=${askId} defaultChecked=${session.askForRoots} />
          <label for=${askId}>Ask me each time the server wants them</label></div></div>
      </${RootsForm}></section>
    <details class="block"><summary>Capabilities</summary><${Json} value=${capabilities} /></details>
    ${notes.length > 0 && html`<section class="block"><h3>What else happened</h3><ol class="log-list">
      ${notes.slice().reverse().map((note, i) => html`<li key=${notes.length - i}>
      <span class="wire-time">${clock(note.time)}</span> <${Text} value=${note.text} max=${500} /></li>`)}</ol></section>`}`;
}

