// The small parts that all of the page is made of. Whatever comes from elsewhere is text here, isolated and cut.

import { Component, createContext, h, render } from './vendor/preact.js';
import { useContext, useEffect, useId, useLayoutEffect, useMemo, useReducer, useRef, useState } from './vendor/preact-hooks.js';
import htm from './vendor/htm.js';
import { asText, cut, pieces, pretty } from './text.js';

export const html = htm.bind(h);
export { Component, createContext, render, useContext, useEffect, useId, useLayoutEffect, useMemo, useReducer, useRef,
  useState };

/** Where the page is served; a proxy may have put a prefix in front. */
export const BASE = new URL('../', import.meta.url).href;

// What is said to those who do not see the page. One region, so that nothing chatters.

let region;

export function announce(text) {
  if (!region) {
    region = document.createElement('div');
    region.className = 'unseen';
    region.setAttribute('role', 'status');
    document.body.append(region);
  }
  // The same text again would not be told.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}

// Text of strangers.

/** Inline text: cut, with what cannot be seen made visible. */
export function Text({ value, max = 300 }) {
  const text = useMemo(() => asText(value, max), [value, max]);
  return html`<bdi>${useMemo(() => pieces(cut(text, max)).map(piece => (typeof piece === 'string' ? piece
    : html`<span class="hidden-char" title=${`U+${piece.code}`}>${piece.code}</span>`)), [text, max])}</bdi>`;
}

/** Text of any length, of which the beginning is shown, and more when asked for. */
export function LongText({ value, first = 4000, most = 1_000_000, class: name = '', code = false }) {
  const [max, setMax] = useState(first);
  const text = typeof value === 'string' ? value : '';
  const isCut = text.length > max;
  const Tag = code ? 'pre' : 'div';
  return html`<div class="long-text ${name}">
    <${Tag} class=${code ? 'code' : 'prose'} tabindex=${code ? 0 : undefined}><${Text} value=${text} max=${max} /></${Tag}>
    ${isCut && html`<p class="cut">
      ${max.toLocaleString('en')} of ${text.length.toLocaleString('en')} characters are shown.
      ${max < most && html` <button type="button" class="link"
        onClick=${() => setMax(Math.min(most, max * 10))}>Show more</button>`}
    </p>`}
  </div>`;
}

/** A value as JSON. */
export function Json({ value, label = 'Copy JSON', raw }) {
  const [more, setMore] = useState(false);
  const { text, whole } = useMemo(() => pretty(value, more ? { max: 1_000_000, depth: 200 } : { max: 20_000 }), [value, more]);
  return html`<div class="code-block">
    <pre class="code" tabindex="0"><${Text} value=${text} max=${2_000_000} /></pre>
    <${Copy} text=${() => raw ?? pretty(value, { max: 20_000_000, depth: 1000 }).text} label=${label} />
    ${!whole && html`<p class="cut">This is cut.${!more
      && html` <button type="button" class="link" onClick=${() => setMore(true)}>Show more</button>`}</p>`}
  </div>`;
}

// Buttons and notices.

const ICONS = {
  copy: 'M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z',
  check: 'M3 8.5l3.5 3.5L13 4.5',
  alert: 'M8 2l6.5 11.5h-13zM8 6.5v3.2M8 11.6v.1',
  info: 'M8 14.2A6.2 6.2 0 1 0 8 1.8a6.2 6.2 0 0 0 0 12.4M8 7.3v4M8 4.8v.1',
  plus: 'M8 3v10M3 8h10',
  close: 'M4 4l8 8M12 4l-8 8',
  arrow: 'M3 8h10M9 4l4 4-4 4',
  out: 'M8 13V3M4 7l4-4 4 4',
  in: 'M8 3v10M4 9l4 4 4-4',
  key: 'M7.1 8.9l6.4-6.4M10.8 5.2l2 2M7.9 10.8a2.7 2.7 0 1 1-5.4 0 2.7 2.7 0 0 1 5.4 0z',
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
    <path d=${ICONS[name]} /></svg>`;
}

async function toClipboard(text) {
  // It exists only on secure origins.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  const place = document.querySelector('dialog[open]') ?? document.body;
  const before = document.activeElement;
  place.append(area);
  area.select();
  const isCopied = document.execCommand('copy');
  area.remove();
  before?.focus?.();
  if (!isCopied) throw new Error('the browser refused');
  return undefined;
}

/** `text` may be a function, for what takes a while to make. */
export function Copy({ text, label = 'Copy', what = '', quiet = false }) {
  const [state, setState] = useState('');
  const timer = useRef();
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await toClipboard(typeof text === 'function' ? text() : text);
      setState('Copied');
      announce(what ? `Copied: ${what}` : 'Copied');
    } catch (error) {
      setState('Not copied');
      announce(`Not copied: ${error.message}`);
    }
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setState(''), 2000);
  };
  return html`<button type="button" class=${`copy ${quiet ? 'quiet' : ''}`} onClick=${copy}
    aria-label=${what ? `${label}: ${what}` : undefined}>
    <${Icon} name=${state === 'Copied' ? 'check' : 'copy'} /><span>${state || label}</span>
  </button>`;
}

export function Notice({ kind = 'info', title, children, alert = false }) {
  return html`<div class=${`notice ${kind}`} role=${alert ? 'alert' : undefined}>
    <${Icon} name=${kind === 'info' ? 'info' : 'alert'} />
    <div>${title && html`<p class="notice-title">${title}</p>`}${children}</div>
  </div>`;
}

/** What went wrong, with the status and the text that came. */
export function Failure({ error, title, alert = true, children }) {
  const { status, statusText, text, what, code, data } = error;
  const head = title ?? what ?? (code === undefined ? 'That did not work' : 'The server answered with an error');
  return html`<${Notice} kind="error" title=${head} alert=${alert}>
    ${status ? html`<p><span class="status-code">${status}</span> ${statusText}</p>` : ''}
    ${code === undefined ? '' : html`<p><span class="status-code">code <${Text} value=${code} max=${20} /></span></p>`}
    ${what === undefined ? html`<${LongText} value=${error.message} first=${1000} />` : text
      && html`<${LongText} value=${text} first=${1000} />`}
    ${data === undefined ? '' : html`<${Json} value=${data} />`}
    ${children}
  </${Notice}>`;
}

// Tabs, as the ARIA Authoring Practices have them.

export function Tabs({ label, tabs, selected, onSelect, id, small = false }) {
  const list = useRef();
  const onKeyDown = event => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = tabs.findIndex(tab => tab.id === selected);
    const next = step === -Infinity ? 0 : step === Infinity ? tabs.length - 1 : (at + step + tabs.length) % tabs.length;
    onSelect(tabs[next].id);
    list.current.children[next].focus();
  };
  return html`<div role="tablist" aria-label=${label} class=${small ? 'tabs small' : 'tabs'} ref=${list} onKeyDown=${onKeyDown}>
    ${tabs.map(tab => html`<button type="button" role="tab" key=${tab.id} id=${`${id}-tab-${tab.id}`}
      aria-controls=${`${id}-panel-${tab.id}`}
      aria-selected=${tab.id === selected ? 'true' : 'false'} tabindex=${tab.id === selected ? 0 : -1}
        onClick=${() => onSelect(tab.id)}>
      ${tab.label}${tab.count === undefined ? '' : html` <span class="count">${tab.count}</span>`}</button>`)}
  </div>`;
}

/** Its children as they were when it was shown last: what nobody sees is not made anew. */
class Kept extends Component {
  shouldComponentUpdate({ isShown }) {
    return isShown;
  }

  render({ isShown, children }) {
    return isShown ? children : null;
  }
}

/** Stays there while another one is shown, so that nothing that was written is lost. */
export function TabPanel({ id, name, selected, children, class: className = '' }) {
  return html`<div role="tabpanel" id=${`${id}-panel-${name}`} aria-labelledby=${`${id}-tab-${name}`} hidden=${name !== selected}
    class=${className}><${Kept} isShown=${name === selected}>${children}</${Kept}></div>`;
}

// Dialogs.

/** Modal while it is there. Escape is `onCancel`; afterwards the focus is back where it was. */
export function Dialog({ title, onCancel, children, wide = false }) {
  const dialog = useRef();
  const id = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    const element = dialog.current;
    element.showModal();
    return () => {
      element.close();
      if (before?.isConnected) before.focus();
      else document.querySelector('main')?.focus();
    };
  }, []);
  const cancel = event => {
    event.preventDefault();
    onCancel();
  };
  return html`<dialog ref=${dialog} aria-labelledby=${id} onCancel=${cancel} class=${wide ? 'wide' : ''}
    onKeyDown=${event => { if (event.key === 'Escape') cancel(event); }}>
    <h2 id=${id}>${title}</h2>
    ${children}
  </dialog>`;
}

/** Asks for a key or token, which is kept in memory only. */
export function KeyForm({ onKey, label = 'Key or token', button = 'Use it', wrong, autofocus = false }) {
  const id = useId();
  const input = useRef();
  useEffect(() => { if (autofocus) input.current.focus(); }, []);
  const submit = event => {
    event.preventDefault();
    const key = input.current.value.trim();
    if (key) onKey(key);
    else input.current.focus();
  };
  return html`<form class="key-form" onSubmit=${submit} novalidate>
    <label for=${id}>${label}</label>
    <div class="row">
      <input id=${id} ref=${input} type="password" autocomplete="off" spellcheck=${false}
        aria-invalid=${wrong ? 'true' : undefined}
        aria-describedby=${`${id}-hint`} />
      <button type="submit" class="primary">${button}</button>
    </div>
    <p id=${`${id}-hint`} class=${wrong ? 'wrong' : 'hint'} role=${wrong ? 'alert' : undefined}>
      ${wrong || 'It stays in this tab’s memory, and is gone when you close or reload it.'}</p>
  </form>`;
}

/** If something of the page breaks, the rest stays. */
export class Fence extends Component {
  state = { error: undefined };

  static getDerivedStateFromError(error) {
    return { error };
  }

  render({ children }, { error }) {
    if (!error) return children;
    return html`<${Notice} kind="error" title="This part cannot be shown" alert=${true}>
      <p><${Text} value=${error.message} /></p>
      <p><button type="button" onClick=${() => this.setState({ error: undefined })}>Try again</button></p>
    </${Notice}>`;
  }
}

/** A list too long to be shown at once: `items` that match, and how many are left. */
export function useFiltered(items, textOf, first = 200) {
  const [filter, setFilter] = useState('');
  const [max, setMax] = useState(first);
  const wanted = filter.trim().toLowerCase();
  const found = useMemo(() => (wanted ? items.filter(item => textOf(item).slice(0, 5000).toLowerCase().includes(wanted))
    : items), [items, wanted]);
  return { filter, setFilter, found, shown: found.slice(0, max), left: Math.max(0, found.length - max), more: () =>
    setMax(max + 500) };
}
