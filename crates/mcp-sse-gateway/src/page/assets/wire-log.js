// The wire log on the page: the newest messages first, filtered, each to be opened and copied.

import { useStore } from './store.js';
import { bytes, clock, cut, plural } from './text.js';
import { Component, Copy, Icon, Json, LongText, Text, html, useEffect, useId, useMemo, useState } from './ui.js';

const FIRST = 100;

export function WireView({ wire }) {
  useStore(wire);
  const [filter, setFilter] = useState('');
  const [direction, setDirection] = useState('all');
  const [open, setOpen] = useState(undefined);
  const [max, setMax] = useState(FIRST);
  const [paused, setPaused] = useState(undefined);
  const [filterId, directionId] = [useId(), useId()];
  const matches = useMemo(() => matcher(filter.trim(), direction), [filter, direction]);
  useEffect(() => { setMax(FIRST); }, [matches]);

  const entries = paused ?? wire.entries;
  const shown = [];
  let found = 0;
  for (let i = entries.length - 1; i >= 0; i--) {
    if (!matches(entries[i])) continue;
    found += 1;
    if (shown.length < max) shown.push(entries[i]);
  }
  const isFiltered = filter.trim() !== '' || direction !== 'all';
  const all = () => `[\n${entries.filter(matches).map(entry => `  ${record(entry)}`).join(',\n')}\n]\n`;
  return html`<section class="wire" aria-labelledby="wire-title">
    <div class="wire-head">
      <h2 id="wire-title">Wire</h2>
      <span class="hint">${isFiltered ? `${found.toLocaleString('en')} of ${plural(entries.length, 'message')}`
        : plural(wire.total, 'message')}</span>
      <span class="push"></span>
      <button type="button" class="quiet" aria-pressed=${paused ? 'true' : 'false'}
        onClick=${() => setPaused(paused ? undefined : [...wire.entries])}>Pause</button>
      <${Copy} text=${all} label="Copy all" what=${`${found} messages as JSON`} quiet=${true} />
      <button type="button" class="quiet"
        onClick=${() => { setPaused(undefined); setOpen(undefined); wire.clear(); }}>Clear</button>
    </div>
    <div class="wire-filter">
      <label class="unseen" for=${filterId}>Filter messages by text</label>
      <input id=${filterId} type="search" placeholder="Filter by text" value=${filter}
        onInput=${event => setFilter(event.currentTarget.value)} autocomplete="off" spellcheck=${false} />
      <label class="unseen" for=${directionId}>Direction</label>
      <select id=${directionId} value=${direction} onChange=${event => setDirection(event.currentTarget.value)}>
        <option value="all">both ways</option><option value="out">sent</option><option value="in">received</option></select>
    </div>
    ${!entries.length && html`<p class="hint empty">Every message that goes to the server or comes from it appears here.</p>`}
    ${entries.length > 0 && !found && html`<p class="hint empty">No message matches.</p>`}
    <ol class="wire-list" aria-label="Messages, newest first">
      ${shown.map(entry => html`<${Row} key=${entry.n} entry=${entry} isOpen=${open === entry.n} onToggle=${setOpen} />`)}
    </ol>
    ${found > shown.length && html`<p class="cut">
      <button type="button" class="link"
      onClick=${() => setMax(max + 400)}>Show older</button> ${(found - shown.length).toLocaleString('en')} more.</p>`}
    ${wire.dropped > 0 && html`<p class="cut">
      ${plural(wire.dropped, 'older message')} dropped: the last 2,000, or 8 MB, are kept.</p>`}
  </section>`;
}

/** A test of entries, which remembers what it has found out. */
function matcher(filter, direction) {
  const pattern = filter && new RegExp(filter.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
  const known = new WeakMap();
  return entry => {
    if (direction !== 'all' && entry.out !== (direction === 'out')) return false;
    if (!pattern) return true;
    let is = known.get(entry);
    if (is === undefined) {
      is = pattern.test(entry.title) || pattern.test(entry.text);
      known.set(entry, is);
    }
    return is;
  };
}

/** An entry as a line of JSON. Text that is no whole JSON is in it as a string. */
function record(entry) {
  const head = `"time":"${entry.time.toISOString()}","direction":"${entry.out ? 'sent' : 'received'}","bytes":${entry.size}`;
  return `{${head},"message":${parsed(entry).isJson ? entry.text : JSON.stringify(entry.text)}}`;
}

function parsed(entry) {
  if (!entry.isWhole) return { isJson: false };
  try {
    return { isJson: true, value: JSON.parse(entry.text) };
  } catch {
    return { isJson: false };
  }
}

/** Made once for each state, since a flood shows the same rows again and again. */
class Row extends Component {
  shouldComponentUpdate({ entry, isOpen }) {
    return entry !== this.props.entry || isOpen !== this.props.isOpen;
  }

  render(props) {
    return html`<${RowContent} ...${props} />`;
  }
}

function RowContent({ entry, isOpen, onToggle }) {
  const id = `wire-${entry.n}`;
  return html`<li class=${`wire-row ${entry.kind.replace(' ', '-')}`}>
    <button type="button" aria-expanded=${isOpen ? 'true' : 'false'} aria-controls=${isOpen ? id : undefined}
      onClick=${() => onToggle(isOpen ? undefined : entry.n)}>
      <span class=${entry.out ? 'way out' : 'way in'}><${Icon} name=${entry.out ? 'out' : 'in'} /><span class="unseen">
        ${entry.out ? 'sent' : 'received'} </span></span>
      <span class="wire-title"><${Text} value=${cut(entry.title, 200)} /></span>
      <span class="wire-kind">${entry.kind}</span>
      <span class="wire-size">${bytes(entry.size)}</span>
      <span class="wire-time">${clock(entry.time)}</span>
    </button>
    ${isOpen && html`<div class="wire-body" id=${id}><${Body} entry=${entry} /></div>`}
  </li>`;
}

function Body({ entry }) {
  const { isJson, value } = useMemo(() => parsed(entry), [entry]);
  return html`
    ${isJson ? html`<${Json} value=${value} raw=${entry.text} label="Copy" />`
      : html`<${LongText} value=${entry.text} first=${5000} code=${true} class="wrap" />`}
    ${!entry.isWhole && html`<p class="cut">The first MB of ${bytes(entry.size)} is kept.</p>`}`;
}
