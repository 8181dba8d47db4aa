// The page for those who run the gateway: charts, servers with their health, sessions, and which tools are slow.

import { AdminData, SPAN_MS } from './admin-data.js';
import { Chart } from './chart.js';
import { Confirm } from './dialogs.js';
import { useStore } from './store.js';
import { age, bytes, count, milliseconds, plain, plural } from './text.js';
import { BASE, Failure, Fence, KeyForm, LongText, Notice, Text, announce, html, render, useEffect, useId, useMemo,
  useState } from './ui.js';

const data = new AdminData(BASE);

function Admin() {
  useStore(data);
  useEffect(() => {
    data.start();
    document.querySelector('.skip').addEventListener('click', event => {
      event.preventDefault();
      document.querySelector('main').focus();
    });
  }, []);
  const { status, failure, needsKey } = data;
  return html`
    <header class="top">
      <span class="brand"><img src=${new URL('./icon.svg', import.meta.url).pathname} alt="" width="26"
        height="26" />mcp-sse</span>
      <span class="top-title">Sessions and rates</span>
      <span class="push"></span>
      ${status?.version && html`<span class="version hint">${plain(status.version, 30)}</span>`}
    </header>
    <main id="main" tabindex="-1"><div class="page admin">
      <h1 class="unseen">Sessions and rates</h1>
      ${needsKey ? html`<section class="card narrow first"><h2>This page needs a key</h2>
        <p>It is one of those in the file that the gateway was given with <code>--admin-token-file</code>.</p>
        <${KeyForm} key=${data.failures} label="Key" button="Open" autofocus=${true} onKey=${key => data.giveKey(key)}
          wrong=${data.key ? 'That key was refused.' : ''} /></section>`
        : html`<${Fence}>
          ${failure && html`<${Trouble} failure=${failure} />`}
          ${!status && !failure && html`<p class="hint loading" role="status">Asking the gateway…</p>`}
          ${status && html`
            ${status.draining && html`<${Notice} kind="warning" title="The gateway is shutting down">
              <p>Requests in flight finish; new sessions are refused.</p></${Notice}>`}
            <${Charts} />
            <${Servers} status=${status} />
            <${Sessions} />
            <${ToolTable} />`}
        </${Fence}>`}
    </div></main>`;
}

function Trouble({ failure }) {
  const text = failure.text ?? failure.message;
  return html`<${Notice} kind="error" title="The gateway does not answer">
    <p>${failure.status ? html`<span class="status-code">${failure.status}</span> ` : ''}<${Text} value=${text} max=${300} /></p>
    <p class="hint">What is shown is of before. It is asked again in ${Math.round(data.pause / 1000)} s. <button type="button"
      class="link" onClick=${() => data.ask()}>Ask now</button></p>
  </${Notice}>`;
}

function Charts() {
  const { points, updated } = data;
  const chart = { most: SPAN_MS, now: updated };
  return html`<section class="charts" aria-label="Rates of the last 5 minutes">
    <${Chart} title="Calls" points=${points.calls} format=${count} unit=" / s" ...${chart} />
    <${Chart} title="Errors" points=${points.errors} format=${count} unit=" / s" ...${chart} />
    <${Chart} title="Sessions" points=${points.sessions} format=${count} ...${chart} />
    <${Chart} title="Traffic" points=${points.bytes} format=${bytes} unit=" / s" ...${chart} />
  </section>`;
}

function since(time, now) {
  const seconds = (Date.parse(now) - Date.parse(time)) / 1000;
  return Number.isFinite(seconds) ? seconds < 1 ? 'just now' : `${age(seconds)} ago` : '–';
}

function Servers({ status }) {
  const servers = Object.entries(status.servers ?? {});
  const probe = async () => {
    if (data.isProbing) return;
    announce('Probing');
    const failure = await data.probe();
    announce(failure ? 'The probe did not work' : 'Probed');
  };
  const { programs } = status;
  return html`<section aria-labelledby="servers-title">
    <div class="section-head"><h2 id="servers-title">Servers</h2>
      ${programs && html`<span class="hint">
        ${plural(programs.running, 'program')} running${programs.waiting_for_start
        ? `, ${programs.waiting_for_start} waiting to start` : ''}${programs.memory_bytes ? `, ${bytes(programs.memory_bytes)}`
        : ''}</span>`}
      <span class="push"></span>
      <button type="button" onClick=${probe} aria-disabled=${data.isProbing ? 'true' : undefined}>
        ${data.isProbing ? 'Probing…' : 'Probe all'}</button></div>
    ${data.probeFailure && html`<${Failure} error=${data.probeFailure} title="The probe did not work" />`}
    ${!servers.length && html`<p class="hint empty">No server is set up.</p>`}
    <div class="server-cards">
      ${servers.map(([name, server]) => html`<${ServerCard} key=${name} name=${name} server=${server} now=${status.time} />`)}
      </div>
  </section>`;
}

function ServerCard({ name, server, now }) {
  const { probe, last_error: lastError } = server;
  const health = probe ? probe.ok ? 'well' : 'ill' : 'unknown';
  return html`<article class="card server-card">
    <div class="row"><h3><${Text} value=${name === '/' ? 'at the root' : name} max=${100} /></h3>
      <span class=${`pill ${health}`}><span class="dot"></span>
        ${{ well: 'well', ill: 'ill', unknown: 'not probed' }[health]}</span></div>
    <p class="mono what"><${Text} value=${server.what} max=${300} /></p>
    <dl class="facts">
      <div><dt>Sessions</dt><dd>${count(server.sessions)}</dd></div>
      ${server.programs !== null && server.programs !== undefined
        && html`<div><dt>Programs</dt><dd>${count(server.programs)}</dd></div>`}
      ${server.memory_bytes ? html`<div><dt>Memory</dt><dd>${bytes(server.memory_bytes)}</dd></div>` : ''}
      ${server.restarts ? html`<div><dt>Restarts</dt><dd>${count(server.restarts)}</dd></div>` : ''}
      <div><dt>Last start</dt><dd>
        ${server.last_start ? html`<time datetime=${server.last_start} title=${server.last_start}>
        ${since(server.last_start, now)}</time>` : 'never'}</dd></div>
      ${probe && html`<div><dt>Probe</dt><dd>
        ${probe.ok ? milliseconds(probe.milliseconds) : 'failed'}, ${since(probe.time, now)}</dd></div>`}
    </dl>
    ${probe && !probe.ok && html`<${LongText} value=${probe.error ?? ''} first=${400} class="boxed error" />`}
    ${lastError && html`<div class="last-error"><p class="hint">Last error, ${since(lastError.time, now)}</p>
      <${LongText} value=${lastError.text} first=${400} class="boxed" /></div>`}
  </article>`;
}

const TRANSPORTS = { sse: 'SSE', streamable_http: 'HTTP' };

/** `sort` gives what to compare; numbers go down first. */
const COLUMNS = [
  { id: 'perMinute', label: 'Calls / min', isNumber: true, sort: one => one.perMinute, show: one => count(one.perMinute) },
  { id: 'server', label: 'Server', sort: one => one.server, show: one =>
    html`<${Text} value=${one.server === '/' ? 'root' : one.server} max=${60} />` },
  { id: 'who', label: 'Who', sort: one => one.principal ?? one.address ?? '', show: one =>
    html`<${Text} value=${one.principal ?? one.address ?? 'unknown'} max=${60} />
    ${one.principal && one.address && html` <span class="hint"><${Text} value=${one.address} max=${60} /></span>`}` },
  { id: 'transport', label: 'Over', sort: one => one.transport, show: one => TRANSPORTS[one.transport]
    ?? plain(one.transport, 20) },
  { id: 'age', label: 'Age', isNumber: true, sort: one => one.age_seconds, show: one => age(one.age_seconds) },
  { id: 'idle', label: 'Idle', isNumber: true, sort: one => one.idle_seconds, show: one => age(one.idle_seconds) },
  { id: 'calls', label: 'Calls', isNumber: true, sort: one => one.calls, show: one =>
    html`${count(one.calls)}${one.in_flight ? html` <span class="hint">(${count(one.in_flight)} open)</span>` : ''}` },
  { id: 'errors', label: 'Errors', isNumber: true, sort: one => one.errors, show: one => count(one.errors) },
  { id: 'bytes', label: 'Traffic', isNumber: true, sort: one => one.bytes_in + one.bytes_out, show: one =>
    bytes(one.bytes_in + one.bytes_out) },
  { id: 'last', label: 'Last call', sort: one => one.last_call ?? '',
    show: one => (one.last_call ? html`<span class="mono"><${Text} value=${one.last_call} max=${60} /></span>` : '–') },
];

function Sessions() {
  const [order, setOrder] = useState({ id: 'perMinute', isDown: true });
  const [filter, setFilter] = useState('');
  const [closing, setClosing] = useState(undefined);
  const [failure, setFailure] = useState(undefined);
  const id = useId();
  const { sessions, sessionsTotal } = data;
  const column = COLUMNS.find(column => column.id === order.id);
  const shown = useMemo(() => {
    const wanted = filter.trim().toLowerCase();
    const found = wanted ? sessions.filter(one =>
      `${one.id} ${one.server} ${one.principal ?? ''} ${one.address ?? ''} ${one.transport} ${one.last_call
      ?? ''}`.toLowerCase().includes(wanted)) : sessions;
    const way = order.isDown ? -1 : 1;
    return [...found].sort((a, b) => {
      const [x, y] = [column.sort(a), column.sort(b)];
      return way * (typeof x === 'string' ? x.localeCompare(String(y)) : x - y) || b.calls - a.calls || (a.id < b.id ? -1 : 1);
    });
  }, [sessions, filter, order]);
  const sortBy = column =>
    setOrder(order.id === column.id ? { id: order.id, isDown: !order.isDown }
    : { id: column.id, isDown: Boolean(column.isNumber) });
  const close = async () => {
    const session = closing;
    setClosing(undefined);
    try {
      announce(await data.close(session.id));
      setFailure(undefined);
    } catch (error) {
      setFailure(error);
    }
  };
  return html`<section aria-labelledby="sessions-title">
    <div class="section-head"><h2 id="sessions-title">Sessions</h2><span class="hint">
      ${plural(sessionsTotal ?? 0, 'session')}${sessionsTotal > sessions.length
      ? `, of which the ${sessions.length} busiest are shown` : ''}</span>
      <span class="push"></span>
      <label class="unseen" for=${id}>Filter sessions</label>
        <input id=${id} type="search" placeholder="Filter" value=${filter}
        onInput=${event => setFilter(event.currentTarget.value)} autocomplete="off" spellcheck=${false} /></div>
    ${failure && html`<${Failure} error=${failure} />`}
    ${sessions.length > 0 ? html`<div class="table-box" tabindex="0" role="region" aria-label="Table of sessions"><table>
      <thead><tr>${COLUMNS.map(column =>
        html`<th key=${column.id} scope="col" class=${column.isNumber ? 'number' : ''}
        aria-sort=${order.id === column.id ? order.isDown ? 'descending' : 'ascending' : undefined}>
        <button type="button" onClick=${() => sortBy(column)}>${column.label}<span class="sort" aria-hidden="true">
          ${order.id === column.id ? order.isDown ? '▾' : '▴' : ''}</span></button></th>`)}<th scope="col">
          <span class="unseen">Close</span></th></tr></thead>
      <tbody>${shown.map(session =>
        html`<tr key=${session.id}>
        ${COLUMNS.map(column => html`<td key=${column.id} class=${column.isNumber ? 'number' : ''}>${column.show(session)}</td>`)}
        <td><button type="button" class="quiet" onClick=${() => setClosing(session)}
          aria-label=${`Close session ${plain(session.id, 20)}`}>Close</button></td></tr>`)}</tbody>
    </table></div>` : html`<p class="hint empty">No client is connected.</p>`}
    ${sessions.length > 0 && !shown.length && html`<p class="hint empty">No session matches.</p>`}
    ${closing && html`<${Confirm} title="Close this session?" action="Close the session" onYes=${close}
      onNo=${() => setClosing(undefined)}>
      <p>Session <code><${Text} value=${closing.id} max=${20} /></code> of <${Text}
        value=${closing.principal ?? closing.address ?? 'somebody'} max=${60} /> to <${Text}
        value=${closing.server === '/' ? 'the server at the root' : closing.server} max=${60} /> ends, and its program with it.
        ${closing.in_flight ? ` ${plural(closing.in_flight, 'request')} in flight ${closing.in_flight === 1 ? 'is'
          : 'are'} lost.` : ''} The client may connect again.</p></${Confirm}>`}
  </section>`;
}

function ToolTable() {
  const { tools } = data;
  const shown = tools?.slice(0, 200) ?? [];
  return html`<section aria-labelledby="tools-title">
    <div class="section-head"><h2 id="tools-title">Tools</h2>
      ${shown.length > 0 && html`<span class="hint">the slowest first, since the gateway was started</span>`}</div>
    ${tools === null && html`<p
      class="hint empty">Start the gateway with <code>--metrics</code> to see how often each tool is called, and how long it takes.</p>`}
    ${tools?.length === 0 && html`<p class="hint empty">No tool has been called yet.</p>`}
    ${shown.length > 0 && html`<div class="table-box" tabindex="0" role="region" aria-label="Table of tools"><table>
      <thead><tr><th scope="col">Tool</th><th scope="col">Server</th><th scope="col" class="number">Calls</th>
        <th scope="col" class="number">Errors</th><th scope="col" class="number">Mean</th>
        <th scope="col" class="number">95 % within</th></tr></thead>
      <tbody>${shown.map(one =>
        html`<tr key=${`${one.server} ${one.tool}`}><td class="mono"><${Text} value=${one.tool} max=${100} /></td><td>
        <${Text} value=${one.server === '' || one.server === '/' ? 'root' : one.server} max=${60} /></td>
        <td class="number">${count(one.calls)}</td><td class="number">${count(one.errors)}</td><td class="number">
          ${milliseconds(one.mean * 1000)}</td><td class="number">${milliseconds(one.p95 * 1000)}</td></tr>`)}</tbody>
    </table></div>`}
    ${tools?.length > shown.length
      && html`<p class="cut">The first ${shown.length} of ${tools.length.toLocaleString('en')} are shown.</p>`}
  </section>`;
}

render(html`<${Admin} />`, document.getElementById('app'));
