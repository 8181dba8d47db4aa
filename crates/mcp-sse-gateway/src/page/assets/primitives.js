// Tools, resources and prompts: a list, and what can be done with the one that is chosen.

import { isObject } from './client.js';
import { ArgumentsForm } from './form.js';
import { CallFailure, PromptResult, ResourceResult, ToolResult, nameOf } from './results.js';
import { asText, bytes, clock, milliseconds, plural } from './text.js';
import { Copy, Failure, Json, LongText, Text, announce, html, useEffect, useId, useMemo, useRef, useState,
  useFiltered } from './ui.js';

/** A list on the left, its chosen item on the right. `sections` are `{ title, items, id }`. */
function Browser({ noun, sections, lists, chosen, onChoose, empty, children }) {
  const all = useMemo(() => sections.flatMap(section => section.items), sections.map(section => section.items));
  const { filter, setFilter, shown, left, found, more } = useFiltered(all, item =>
    `${nameOf(item)} ${asText(item.name, 120)} ${item.uri ?? item.uriTemplate ?? ''}`);
  const filterId = useId();
  const visible = useMemo(() => new Set(shown), [shown]);
  const isLoading = lists.some(list => list.state === 'loading');
  const errors = lists.filter(list => list.error);
  const notes = lists.flatMap(list => list.notes ?? []);
  const box = useRef();
  const onKeyDown = event => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...box.current.querySelectorAll('.item')];
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
  };
  return html`
    ${errors.map(({ error }) => html`<${Failure} error=${error} title=${`The list of ${noun}s did not come`} />`)}
    ${!all.length && !errors.length && html`<p class="hint empty">${isLoading ? `Reading the list of ${noun}s…` : empty}</p>`}
    ${all.length > 0 && html`<div class="browser">
      <nav class="browser-list" aria-label=${`${noun}s`} ref=${box} onKeyDown=${onKeyDown}>
        ${all.length > 8 && html`<label class="unseen" for=${filterId}>Filter ${noun}s</label>
          <input id=${filterId} type="search" placeholder=${`Filter ${noun}s`} value=${filter}
            onInput=${event => setFilter(event.currentTarget.value)} autocomplete="off" spellcheck=${false} />`}
        <div class="item-box">
        ${sections.map(section => {
          const items = section.items.filter(item => visible.has(item));
          return items.length > 0 && html`<div key=${section.title}>
            ${sections.length > 1 && html`<h3 class="list-title">${section.title}</h3>`}
            <ul>${items.map(item => html`<li key=${section.id(item)}>
              <button type="button" class="item" aria-current=${item === chosen ? 'true' : undefined}
              onClick=${() => onChoose(item)}><span class="item-name">
                <${Text} value=${typeof item.name === 'string' ? item.name : section.id(item)} max=${120} /></span>
              ${section.about?.(item)}</button></li>`)}</ul></div>`;
        })}
        ${!found.length && html`<p class="hint">None matches.</p>`}
        ${left > 0 && html`<p class="cut">
          <button type="button" class="link" onClick=${more}>Show more</button> ${left.toLocaleString('en')} are not shown.</p>`}
        </div>
        ${notes.map(note => html`<p class="cut">${note}</p>`)}
      </nav>
      <div class="browser-detail">${children}</div>
    </div>`}`;
}

/** The chosen item of a list that may be read anew at any time. */
function useChosen(items, id) {
  const [key, setKey] = useState(undefined);
  const chosen = items.find(item => id(item) === key) ?? items[0];
  return [chosen, item => setKey(id(item))];
}

const byName = item => item.name;

export function Tools({ session, onRead }) {
  const { tools } = session.lists;
  const [tool, choose] = useChosen(tools.items, byName);
  const readIt = uri => {
    session.readResource(uri, 'link');
    session.linked = uri;
    onRead();
  };
  return html`<${Browser} noun="tool" sections=${[{ title: 'Tools', items: tools.items, id: byName }]} lists=${[tools]}
    chosen=${tool} onChoose=${choose}
      empty="This server has no tools.">
    ${tool && html`<${Tool} key=${tool.name} session=${session} tool=${tool} onRead=${readIt} />`}
  </${Browser}>`;
}

function Tool({ session, tool, onRead }) {
  const call = session.calls.get(`tool:${tool.name}`);
  const isRunning = call?.state === 'running';
  return html`<article>
    <${Head} item=${tool} />
    <${Hints} annotations=${tool.annotations} />
    <${ArgumentsForm} schema=${tool.inputSchema} submitLabel=${isRunning ? 'Calling…' : 'Call'}
      busy=${isRunning || session.state !== 'open'} memory=${session.drafts} memoryKey=${`tool:${tool.name}`}
      onSubmit=${args => session.callTool(tool.name, args).then(tell)}
        actions=${isRunning && html`<button type="button" onClick=${() => session.cancel(call)}>Cancel</button>`} />
    ${call && html`<${Outcome} call=${call}>
      ${call.result && html`<${ToolResult} result=${call.result} onRead=${onRead} />`}</${Outcome}>`}
    <details class="block schemas"><summary>Schema</summary>
      <${Json} value=${tool.outputSchema === undefined ? tool.inputSchema
      : { input: tool.inputSchema, output: tool.outputSchema }} /></details>
  </article>`;
}

function tell(call) {
  const how = { done: call.result?.isError === true ? 'The tool reports an error' : 'Done', failed: 'Failed',
    cancelled: 'Cancelled' }[call.state];
  announce(`${how}, after ${milliseconds(call.milliseconds)}`);
}

function Head({ item, id = item.name }) {
  const title = item.title ?? item.annotations?.title;
  return html`
    <div class="detail-head"><h3 class="detail-title"><${Text} value=${id} max=${300} /></h3>
      <${Copy} text=${() => asText(id, 10_000)} label="Copy" what="name" quiet=${true} /></div>
    ${typeof title === 'string' && title !== id && html`<p class="detail-subtitle"><${Text} value=${title} max=${300} /></p>`}
    ${typeof item.description === 'string' && html`<${LongText} value=${item.description} first=${1200} class="description" />`}`;
}

/** What the server claims about a tool. */
function Hints({ annotations }) {
  if (!isObject(annotations)) return null;
  const hints = [
    annotations.readOnlyHint === true && 'only reads',
    annotations.readOnlyHint === false && annotations.destructiveHint === true && 'may destroy',
    annotations.idempotentHint === true && 'same again changes nothing',
    annotations.openWorldHint === true && 'reaches beyond the server',
  ].filter(Boolean);
  return hints.length > 0 && html`<p class="hints">${hints.map(hint => html`<span key=${hint} class="tag">${hint}</span>`)}
    <span class="hint">as the server says</span></p>`;
}

/** How a call goes, or went. */
function Outcome({ call, children }) {
  const { state, progress } = call;
  return html`<section class=${`outcome ${state}`} aria-label="Result">
    <div class="outcome-head">
      <h4>${{ running: 'Running', done: call.result?.isError === true ? 'Error' : 'Result', failed: 'Failed',
        cancelled: 'Cancelled' }[state]}</h4>
      <span class="hint">${state === 'running' ? html`<${Elapsed} since=${call.begun} />`
        : milliseconds(call.milliseconds)}${call.size ? `, ${bytes(call.size)}` : ''}</span>
    </div>
    ${state === 'running' && html`<${Progress} progress=${progress} />`}
    ${state === 'failed' || state === 'cancelled' ? html`<${CallFailure} call=${call} />` : children}
  </section>`;
}

function Progress({ progress }) {
  const id = useId();
  const { progress: done, total, message } = progress ?? {};
  const isKnown = Number.isFinite(done) && Number.isFinite(total) && total > 0;
  return html`<div class="progress">
    <label for=${id} class="hint">
      ${progress ? html`${isKnown ? `${done} of ${total}` : Number.isFinite(done) ? String(done)
      : ''} ${typeof message === 'string' && html`<${Text} value=${message} max=${200} />`}` : 'Waiting for the answer'}</label>
    ${isKnown ? html`<progress id=${id} max=${total} value=${Math.min(total, Math.max(0, done))}></progress>`
      : html`<progress id=${id}></progress>`}
  </div>`;
}

function Elapsed({ since }) {
  const [now, setNow] = useState(performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 250);
    return () => clearInterval(timer);
  }, []);
  return `${(Math.max(0, now - since) / 1000).toFixed(1)} s`;
}

export function Prompts({ session }) {
  const { prompts } = session.lists;
  const [prompt, choose] = useChosen(prompts.items, byName);
  return html`<${Browser} noun="prompt" sections=${[{ title: 'Prompts', items: prompts.items, id: byName }]} lists=${[prompts]}
    chosen=${prompt} onChoose=${choose} empty="This server has no prompts.">
    ${prompt && html`<${Prompt} key=${prompt.name} session=${session} prompt=${prompt} />`}
  </${Browser}>`;
}

function Prompt({ session, prompt }) {
  const call = session.calls.get(`prompt:${prompt.name}`);
  const isRunning = call?.state === 'running';
  const schema = useMemo(() => fromArguments(prompt.arguments), [prompt]);
  const suggest = (name, value, others) => session.complete({ type: 'ref/prompt', name: prompt.name }, name, value, others);
  return html`<article>
    <${Head} item=${prompt} />
    <${ArgumentsForm} schema=${schema} submitLabel=${isRunning ? 'Getting…' : 'Get the prompt'}
      busy=${isRunning || session.state !== 'open'} memory=${session.drafts} memoryKey=${`prompt:${prompt.name}`}
      suggest=${session.can('completions') ? suggest : undefined}
        onSubmit=${args => session.getPrompt(prompt.name, args).then(tell)}
      actions=${isRunning && html`<button type="button" onClick=${() => session.cancel(call)}>Cancel</button>`} />
    ${call && html`<${Outcome} call=${call}>${call.result && html`<${PromptResult} result=${call.result} />`}</${Outcome}>`}
  </article>`;
}

/** Arguments of prompts are always text. */
function fromArguments(list) {
  const known = (Array.isArray(list) ? list : []).filter(argument => isObject(argument)
    && typeof argument.name === 'string').slice(0, 200);
  return {
    type: 'object',
    properties: Object.fromEntries(known.map(({ name, title, description }) => [name, { type: 'string', title, description }])),
    required: known.filter(argument => argument.required === true).map(argument => argument.name),
  };
}

export function Resources({ session }) {
  const { resources, templates } = session.lists;
  const [chosen, setChosen] = useState(undefined);
  // A link in a result leads here, to what may not be in the list.
  const linked = useMemo(() => (session.linked === undefined ? undefined
    : { name: 'from a result', uri: session.linked, isLinked: true }), [session.linked]);
  const last = useRef();
  useEffect(() => {
    if (linked && last.current !== linked) setChosen(linked);
    last.current = linked;
  }, [linked]);
  const still = chosen?.isLinked ? chosen : resources.items.find(item => item.uri === chosen?.uri)
    ?? templates.items.find(item => item.uriTemplate === chosen?.uriTemplate);
  const item = still ?? resources.items[0] ?? templates.items[0];
  const about = item => html`<span class="item-about"><${Text} value=${item.uri ?? item.uriTemplate} max=${120} /></span>`;
  const sections = [
    ...(linked ? [{ title: 'From a result', items: [linked], id: item => item.uri, about }] : []),
    { title: 'Resources', items: resources.items, id: item => item.uri, about },
    { title: 'Templates', items: templates.items, id: item => item.uriTemplate, about },
  ];
  return html`<${Browser} noun="resource" sections=${sections} lists=${[resources, templates]} chosen=${item}
    onChoose=${setChosen} empty="This server has no resources.">
    ${item?.uri !== undefined && html`<${Resource} key=${item.uri} session=${session} resource=${item} />`}
    ${item?.uriTemplate !== undefined && html`<${Template} key=${item.uriTemplate} session=${session} template=${item} />`}
  </${Browser}>`;
}

function Resource({ session, resource }) {
  const { uri } = resource;
  const call = session.calls.get(`resource:${resource.isLinked ? 'link' : uri}`);
  const isRunning = call?.state === 'running';
  const isOff = isRunning || session.state !== 'open';
  return html`<article>
    <${Head} item=${resource} />
    <p class="mono uri"><${Text} value=${uri} max=${2000} /></p>
    <p class="hint">${typeof resource.mimeType === 'string'
      && html`<${Text} value=${resource.mimeType} max=${80} /> `}${Number.isFinite(resource.size) && bytes(resource.size)}</p>
    <div class="buttons">
      <button type="button" class="primary" aria-disabled=${isOff ? 'true' : undefined}
        onClick=${() => { if (!isOff) session.readResource(uri, resource.isLinked ? 'link' : uri).then(tell); }}>
        ${isRunning ? 'Reading…' : 'Read'}</button>
      ${isRunning && html`<button type="button" onClick=${() => session.cancel(call)}>Cancel</button>`}
      <${Subscribe} session=${session} uri=${uri} />
    </div>
    ${call && html`<${Outcome} call=${call}>${call.result && html`<${ResourceResult} result=${call.result} />`}</${Outcome}>`}
  </article>`;
}

function Subscribe({ session, uri }) {
  const [error, setError] = useState();
  const subscription = session.subscriptions.get(uri);
  if (!session.capabilities.resources?.subscribe) return null;
  const toggle = () => (subscription ? session.unsubscribeFrom(uri) : session.subscribeTo(uri)).then(() => setError(undefined),
    setError);
  return html`
    <button type="button" aria-pressed=${subscription ? 'true' : 'false'} onClick=${toggle}>
      ${subscription ? 'Unsubscribe' : 'Subscribe'}</button>
    ${subscription && html`<span class="hint">
      ${subscription.updates ? `${plural(subscription.updates, 'update')}, last at ${clock(subscription.at)}`
      : 'No update yet'}</span>`}
    ${error && html`<${Failure} error=${error} />`}`;
}

function Template({ session, template }) {
  const [uri, setUri] = useState(undefined);
  const names = useMemo(() =>
    [...new Set([...template.uriTemplate.slice(0, 5000).matchAll(/\{[+#./;?&]?([^{}]{1,300})\}/g)].flatMap(match =>
    match[1].split(',').map(name => name.replace(/[*]|:\d+$/g, ''))))].slice(0, 50), [template]);
  const schema = useMemo(() => ({ type: 'object', properties: Object.fromEntries(names.map(name => [name, { type: 'string' }])),
    required: names }), [names]);
  const call = session.calls.get(`resource:${template.uriTemplate}`);
  const isRunning = call?.state === 'running';
  const suggest = (name, value, others) =>
    session.complete({ type: 'ref/resource', uri: template.uriTemplate }, name, value, others);
  const readIt = values => {
    const made = expand(template.uriTemplate, values);
    setUri(made);
    session.readResource(made, template.uriTemplate).then(tell);
  };
  return html`<article>
    <${Head} item=${template} id=${template.name ?? template.uriTemplate} />
    <p class="mono uri"><${Text} value=${template.uriTemplate} max=${2000} /></p>
    <${ArgumentsForm} schema=${schema} submitLabel=${isRunning ? 'Reading…' : 'Read'}
      busy=${isRunning || session.state !== 'open'} memory=${session.drafts} memoryKey=${`template:${template.uriTemplate}`}
      nothing="It has no variables." suggest=${session.can('completions') ? suggest : undefined} onSubmit=${readIt} />
    ${uri !== undefined && html`<div class="row"><span class="mono uri"><${Text} value=${uri} max=${500} /></span>
      <${Subscribe} session=${session} uri=${uri} /></div>`}
    ${call && html`<${Outcome} call=${call}>${call.result && html`<${ResourceResult} result=${call.result} />`}</${Outcome}>`}
  </article>`;
}

/** RFC 6570, as far as templates of MCP servers go: `{name}`, `{+name}`, `{/name}`, `{?name,other}` and the like. */
export function expand(template, values) {
  return template.replace(/\{([+#./;?&]?)([^{}]{1,300})\}/g, (_, operator, list) => {
    const isOpen = operator === '+' || operator === '#';
    const parts = list.split(',').map(name => name.replace(/[*]|:\d+$/g, '')).filter(name =>
      typeof values[name] === 'string').map(name => {
      const value = isOpen ? encodeURI(values[name]) : encodeURIComponent(values[name]);
      return ';?&'.includes(operator) && operator ? `${encodeURIComponent(name)}=${value}` : value;
    });
    if (!parts.length) return '';
    const [first, between] = { '': ['', ','], '+': ['', ','], '#': ['#', ','], '.': ['.', '.'], '/': ['/', '/'], ';': [';', ';'],
      '?': ['?', '&'], '&': ['&', '&'] }[operator];
    return first + parts.join(between);
  });
}
