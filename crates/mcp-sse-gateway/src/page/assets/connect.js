// The Connect page: what is served, and the lines to copy for each client.

import { titleOf } from './console.js';
import { slug, snippets } from './snippets.js';
import { plain } from './text.js';
import { BASE, Copy, Icon, KeyForm, Notice, Text, html, useState } from './ui.js';

/** `listing` is what the gateway said of its servers. */
export function Connect({ listing, error, hasKey, onKey, onForget, onTry, onRetry }) {
  if (error) {
    return html`<${Notice} kind="error" title="The list of servers did not come" alert=${true}><p>
      <${Text} value=${error.text ?? error.message} max=${500} /></p>
      <p><button type="button" onClick=${onRetry}>Try again</button></p></${Notice}>`;
  }
  if (!listing) return html`<p class="hint loading" role="status">Asking what is served…</p>`;
  const { servers, locked } = listing;
  return html`
    <div class="intro">
      <h1>Connect a client</h1>
      <p>${servers.length === 0 ? 'This gateway serves MCP servers to clients that speak HTTP+SSE.' : servers.length === 1
        ? 'This gateway serves an MCP server. Copy the lines for your client, or try it right here.'
        : `This gateway serves ${servers.length} MCP servers. Copy the lines for your client, or try one right here.`}</p>
    </div>
    ${servers.map(server => html`<${Server} key=${server.name} server=${server} publicUrl=${listing.public_url}
      onTry=${() => onTry(server)} isOnly=${servers.length === 1} />`)}
    ${!servers.length && !locked
      && html`<div class="empty-state"><h2>Nothing is served yet</h2>
      <p>The operator of this gateway has not set up a server, or all of them are turned off.</p></div>`}
    ${locked && html`<section class="card narrow" aria-labelledby="locked-title">
      <h2 id="locked-title"><${Icon} name="key" />${servers.length ? 'There is more with a key' : 'This gateway needs a key'}</h2>
      <p>${servers.length ? 'Some servers are shown only to those who have a key or an access token.'
        : 'Its operator gives you one. An access token of its authorization server works too, if it has one.'}</p>
      <${KeyForm} key=${String(hasKey)} onKey=${onKey} button="Show them"
        wrong=${hasKey ? 'The key that you gave opens nothing more here.' : ''} />
    </section>`}
    ${hasKey && servers.length > 0
      && html`<p class="hint key-state">
      <${Icon} name="key" /> A key is in use. <button type="button" class="link" onClick=${onForget}>Forget it</button></p>`}`;
}

function Server({ server, publicUrl, onTry, isOnly }) {
  const base = publicUrl ? publicUrl.replace(/\/?$/, '/') : BASE;
  const at = path => base + path.replace(/^\//, '');
  const sse = at(server.sse);
  const mcp = server.mcp ? at(server.mcp) : null;
  const id = `server-${encodeURIComponent(server.name)}`;
  return html`<section class="card server" aria-labelledby=${id}>
    <div class="server-head">
      <div>
        <h2 id=${id}>${server.name === '' ? isOnly ? 'The server' : 'The server at the root'
          : html`<${Text} value=${server.name} max=${100} />`}</h2>
        ${server.needs && html`<p class="hint">
          <${Icon} name="key" /> ${{ key: 'needs a key', token: 'needs a login',
          'key or token': 'needs a key or a login' }[server.needs] ?? 'needs a key'}</p>`}
      </div>
      <button type="button" class="primary" aria-describedby=${id} onClick=${onTry}>Try it in the console<${Icon}
        name="arrow" /></button>
    </div>
    <dl class="endpoints">
      <div><dt>HTTP+SSE</dt><dd class="mono">${sse}</dd><dd>
        <${Copy} text=${sse} label="Copy" what="URL for HTTP+SSE" quiet=${true} /></dd></div>
      ${mcp && html`<div><dt>Streamable HTTP</dt><dd class="mono">${mcp}</dd><dd>
        <${Copy} text=${mcp} label="Copy" what="URL for Streamable HTTP" quiet=${true} /></dd></div>`}
    </dl>
    <${Clients} name=${titleOf(server)} id=${id} entries=${snippets({ name: server.name, sse, mcp, needs: server.needs })} />
    ${!mcp && html`<p class="hint">For Rust there are no lines here: rmcp speaks only Streamable HTTP, which this gateway does not serve.</p>`}
    ${slug(server.name) !== server.name && server.name !== ''
      && html`<p class="hint">Clients take only simple names, so it is called <code>${slug(server.name)}</code> in them.</p>`}
  </section>`;
}

/** One client at a time, chosen from a row of buttons. */
function Clients({ entries, name, id }) {
  const [chosen, setChosen] = useState(entries[0].id);
  const entry = entries.find(one => one.id === chosen) ?? entries[0];
  return html`<div class="clients">
    <div class="client-list" role="group" aria-label=${`Clients for ${plain(name, 80)}`}>
      ${entries.map(one => html`<button type="button" key=${one.id} class="client"
        aria-pressed=${one === entry ? 'true' : 'false'} onClick=${() => setChosen(one.id)}>${one.client}</button>`)}
    </div>
    <div class="snippet" id=${`${id}-snippet`}>
      <div class="snippet-head"><span class="hint">
        ${entry.file ?? { shell: 'In a terminal', python: 'main.py', typescript: 'main.ts', rust: 'src/main.rs' }[entry.language]
        ?? ''}</span>
        <${Copy} key=${entry.id} text=${entry.text} label="Copy" what=${`lines for ${entry.client}`} /></div>
      <pre class="code" tabindex="0" aria-label=${`Lines for ${entry.client}`}><code>${entry.text}</code></pre>
      ${entry.note && html`<p class="hint">${entry.note}</p>`}
    </div>
  </div>`;
}
