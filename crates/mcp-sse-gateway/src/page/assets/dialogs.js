// What the server asks of the visitor, one question after the other: to answer for a model (sampling), to fill in a form
// or open a page (elicitation), and to name roots.

import { ArgumentsForm } from './form.js';
import { Messages } from './results.js';
import { Dialog, LongText, Notice, Text, html, useId, useRef, useState } from './ui.js';

const REFUSED = -1;

/** The first question that waits. */
export function Asked({ session }) {
  const asked = session.asked[0];
  if (!asked) return null;
  const Question = { 'sampling/createMessage': Sampling, 'elicitation/create': Elicitation, 'roots/list': Roots }[asked.method];
  const others = session.asked.length - 1;
  return html`<${Question} key=${asked.id} session=${session} asked=${asked} foot=${html`<p class="dialog-foot">
    ${others > 0 && html`<span>${others} more ${others === 1 ? 'question waits' : 'questions wait'}. </span>`}
    <button type="button" class="link" onClick=${() => session.disconnect()}>Disconnect from the server</button></p>`} />`;
}

function Sampling({ session, asked, foot }) {
  const { messages, systemPrompt, maxTokens, tools } = asked.params;
  const [text, setText] = useState('');
  const [model, setModel] = useState('a-human');
  const [textId, modelId] = [useId(), useId()];
  const decline = () => session.refuse(asked, REFUSED, 'The user declined the sampling request');
  const send = event => {
    event.preventDefault();
    session.answer(asked, { role: 'assistant', content: { type: 'text', text }, model: model || 'a-human',
      stopReason: 'endTurn' });
  };
  return html`<${Dialog} title="The server asks for a model’s answer" onCancel=${decline} wide=${true}>
    <p class="hint">A client would give this to its language model. Here, you are the model.</p>
    ${typeof systemPrompt === 'string'
      && html`<section class="block"><h3>System prompt</h3>
      <${LongText} value=${systemPrompt} first=${1000} class="boxed" /></section>`}
    <section class="block"><h3>Messages</h3><${Messages} messages=${Array.isArray(messages) ? messages : []} /></section>
    ${(maxTokens !== undefined || tools !== undefined)
      && html`<p class="hint">${maxTokens !== undefined
      && html`At most <${Text} value=${maxTokens} max=${20} /> tokens. `}
      ${Array.isArray(tools) && `It offers ${tools.length} tools, which this page cannot use.`}</p>`}
    <form onSubmit=${send} novalidate>
      <div class="field"><label for=${textId}>Your answer</label>
        <textarea id=${textId} rows="4" autofocus value=${text}
          onInput=${event => setText(event.currentTarget.value)}></textarea></div>
      <div class="field"><label for=${modelId}>Name of the model</label>
        <input id=${modelId} value=${model} autocomplete="off" onInput=${event => setModel(event.currentTarget.value)} /></div>
      <div class="buttons"><button type="submit" class="primary">Send the answer</button>
        <button type="button" onClick=${decline}>Decline</button></div>
    </form>
    ${foot}
  </${Dialog}>`;
}

function Elicitation({ session, asked, foot }) {
  const { mode, message, requestedSchema, url } = asked.params;
  const cancel = () => session.answer(asked, { action: 'cancel' });
  const decline = () => session.answer(asked, { action: 'decline' });
  const buttons = html`<button type="button" onClick=${decline}>Decline</button>
    <button type="button" onClick=${cancel}>Cancel</button>`;
  return html`<${Dialog} title="The server asks you something" onCancel=${cancel} wide=${true}>
    ${typeof message === 'string' && html`<${LongText} value=${message} first=${2000} class="boxed" />`}
    ${mode === 'url' ? html`<${OpenPage} url=${url} onDone=${() => session.answer(asked, { action: 'accept' })}
      buttons=${buttons} />` : html`
      <p class="hint">What you fill in goes to the server. Do not give it passwords.</p>
      <${ArgumentsForm} schema=${requestedSchema} submitLabel="Send" nothing="Nothing has to be filled in."
        onSubmit=${content => session.answer(asked, { action: 'accept', content })} actions=${buttons} />`}
    ${foot}
  </${Dialog}>`;
}

/** The address as text, so that everybody sees where it leads, and a link only to what is of the web. */
function OpenPage({ url, onDone, buttons }) {
  const parsed = typeof url === 'string' && url.length < 10_000 && URL.canParse(url) ? new URL(url) : undefined;
  const isWeb = parsed?.protocol === 'https:' || parsed?.protocol === 'http:';
  return html`
    <p>It wants you to open this page:</p>
    <${LongText} value=${parsed?.href ?? (typeof url === 'string' ? url : '')} first=${2000} code=${true} class="wrap" />
    ${isWeb ? html`<p>The page is at <strong>
      <${Text} value=${parsed.host} max=${300} /></strong>. Open it only if you trust that site.</p>
      <p><a class="button" href=${parsed.href} target="_blank" rel="noopener noreferrer"
        referrerpolicy="no-referrer">Open it in a new tab</a></p>`
      : html`<${Notice} kind="error" title="This is no address of the web"><p>It is not opened.</p></${Notice}>`}
    <div class="buttons">${isWeb
      && html`<button type="button" class="primary" onClick=${onDone}>I agree</button>`}${buttons}</div>`;
}

function Roots({ session, asked, foot }) {
  const refuse = () => session.refuse(asked, REFUSED, 'The user declined to name roots');
  return html`<${Dialog} title="The server asks for your roots" onCancel=${refuse}>
    <p class="hint">Roots are the folders that a server may work in. This page opens no files; it passes on what you write.</p>
    <${RootsForm} roots=${session.roots} submitLabel="Send" onRoots=${roots => session.answer(asked, { roots })}
      actions=${html`<button type="button" onClick=${refuse}>Decline</button>`} />
    ${foot}
  </${Dialog}>`;
}

export function RootsForm({ roots, onRoots, submitLabel, actions, children }) {
  const area = useRef();
  const [wrong, setWrong] = useState('');
  const id = useId();
  const submit = event => {
    event.preventDefault();
    const uris = area.current.value.split('\n').map(line =>
      line.trim()).filter(Boolean).map(line => (line.startsWith('/') ? `file://${line}` : line));
    const bad = uris.find(uri => !URL.canParse(uri));
    setWrong(bad === undefined ? '' : `This is not a URI: ${bad.slice(0, 200)}`);
    if (bad === undefined) onRoots(uris.map(uri => ({ uri: new URL(uri).href, name: nameOf(uri) })));
  };
  return html`<form onSubmit=${submit} novalidate>
    <div class="field"><label for=${id}>Roots, a line for each</label>
      <textarea id=${id} class="mono" rows="3" ref=${area} spellcheck=${false} placeholder="file:///path/to/project"
        defaultValue=${roots.map(root => root.uri).join('\n')}
        aria-invalid=${wrong ? 'true' : undefined} aria-describedby=${wrong ? `${id}-wrong` : undefined}></textarea>
      ${wrong && html`<p class="wrong" id=${`${id}-wrong`} role="alert">${wrong}</p>`}</div>
    ${children}
    <div class="buttons"><button type="submit" class="primary">${submitLabel}</button>${actions}</div>
  </form>`;
}

const nameOf = uri => uri.replace(/\/+$/, '').split('/').at(-1) || uri;

/** Yes or no, to what cannot be taken back. */
export function Confirm({ title, children, action, onYes, onNo }) {
  return html`<${Dialog} title=${title} onCancel=${onNo}>
    ${children}
    <div class="buttons"><button type="button" class="danger" onClick=${onYes}>${action}</button>
      <button type="button" onClick=${onNo}>Cancel</button></div>
  </${Dialog}>`;
}

