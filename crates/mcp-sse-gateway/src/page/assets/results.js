// What came back from a call, shown by its kind. Nothing of it is ever markup, a script or a link to follow.

import { isObject } from './client.js';
import { PixelBudget, fromBase64, show } from './image.js';
import { bytes as size, plain } from './text.js';
import { Copy, Failure, Json, LongText, Notice, Text, createContext, html, useContext, useEffect, useMemo, useRef,
  useState } from './ui.js';

const MAX_BLOCKS = 100;

/** The `PixelBudget` of the result that is shown. */
const Pixels = createContext();

function OneResult({ of, children }) {
  const budget = useMemo(() => new PixelBudget(), [of]);
  return html`<${Pixels.Provider} value=${budget}>${children}</${Pixels.Provider}>`;
}

/** The result of a tool. `onRead(uri)` reads a resource that it links to. */
export function ToolResult({ result, onRead }) {
  const content = Array.isArray(result.content) ? result.content : [];
  const structured = result.structuredContent;
  return html`<${OneResult} of=${result}>
    ${result.isError === true
      && html`<${Notice} kind="error" title="The tool reports an error"><p>What follows says what went wrong.</p></${Notice}>`}
    <${Blocks} blocks=${content} onRead=${onRead} />
    ${structured !== undefined
      && html`<section class="block"><h4>Structured content</h4><${Json} value=${structured} /></section>`}
    ${!content.length && structured === undefined && html`<p class="hint">The result is empty.</p>`}
    ${isObject(result._meta)
      && html`<details class="block"><summary>Metadata</summary><${Json} value=${result._meta} /></details>`}
  </${OneResult}>`;
}

export function PromptResult({ result, onRead }) {
  const messages = Array.isArray(result.messages) ? result.messages : [];
  return html`
    ${typeof result.description === 'string' && html`<${LongText} value=${result.description} first=${500} class="hint" />`}
    <${Messages} messages=${messages} onRead=${onRead} />
    ${!messages.length && html`<p class="hint">There are no messages in it.</p>`}`;
}

/** Messages of a prompt or of sampling. */
export function Messages({ messages, onRead }) {
  return html`<${OneResult} of=${messages}><ol class="messages">${messages.slice(0, MAX_BLOCKS).map((message, i) => {
    if (!isObject(message)) return html`<li key=${i}><${Json} value=${message} /></li>`;
    const { role, content } = message;
    return html`<li key=${i}><p class="role"><${Text} value=${typeof role === 'string' ? role : '?'} max=${30} /></p>
      <${Blocks} blocks=${Array.isArray(content) ? content : [content]} onRead=${onRead} /></li>`;
  })}</ol></${OneResult}>
  ${messages.length > MAX_BLOCKS
    && html`<p class="cut">The first ${MAX_BLOCKS} of ${messages.length.toLocaleString('en')} messages are shown.</p>`}`;
}

export function ResourceResult({ result }) {
  const contents = Array.isArray(result.contents) ? result.contents : [];
  return html`<${OneResult} of=${result}>
    ${contents.slice(0, MAX_BLOCKS).map((content, i) => html`<${Embedded} key=${i} resource=${content} />`)}
    ${contents.length > MAX_BLOCKS
      && html`<p class="cut">The first ${MAX_BLOCKS} of ${contents.length.toLocaleString('en')} contents are shown.</p>`}
    ${!contents.length && html`<p class="hint">It has no contents.</p>`}
  </${OneResult}>`;
}

function Blocks({ blocks, onRead }) {
  return html`
    ${blocks.slice(0, MAX_BLOCKS).map((block, i) =>
      html`<section class="block" key=${i}><${Block} block=${block} onRead=${onRead} /></section>`)}
    ${blocks.length > MAX_BLOCKS
      && html`<p class="cut">The first ${MAX_BLOCKS} of ${blocks.length.toLocaleString('en')} parts are shown.</p>`}`;
}

function Block({ block, onRead }) {
  if (!isObject(block)) return html`<${Json} value=${block} />`;
  switch (block.type) {
    case 'text':
      if (typeof block.text !== 'string') break;
      return html`<div class="code-block"><${LongText} value=${block.text} first=${20_000} code=${true} class="wrap" />
        <${Copy} text=${block.text} label="Copy" what="text of the result" /></div>`;
    case 'image':
      return html`<${Picture} data=${block.data} mimeType=${block.mimeType} />`;
    case 'audio':
      return html`<${Download} data=${block.data} mimeType=${block.mimeType} title="Audio" />`;
    case 'resource_link':
      return html`<div class="resource-link"><div><p><strong>
        <${Text} value=${block.title ?? block.name ?? 'Resource'} max=${200} /></strong></p>
        <p class="mono"><${Text} value=${block.uri} max=${500} /></p>
        ${typeof block.description === 'string'
          && html`<${LongText} value=${block.description} first=${300} class="hint" />`}</div>
        ${onRead && typeof block.uri === 'string'
          && html`<button type="button" onClick=${() => onRead(block.uri)}>Read</button>`}</div>`;
    case 'resource':
      return html`<${Embedded} resource=${block.resource} />`;
    default:
  }
  return html`<${Json} value=${block} />`;
}

function Embedded({ resource }) {
  if (!isObject(resource)) return html`<${Json} value=${resource} />`;
  const { uri, mimeType, text, blob } = resource;
  const isImage = typeof mimeType === 'string' && /^image\/(png|jpeg|gif|webp)$/.test(mimeType);
  return html`<div class="resource">
    <p class="resource-head"><span class="mono"><${Text} value=${uri} max=${500} /></span>
      ${mimeType && html` <span class="tag"><${Text} value=${mimeType} max=${80} /></span>`}</p>
    ${typeof text === 'string'
      ? html`<div class="code-block"><${LongText} value=${text} first=${20_000} code=${true} class="wrap" />
      <${Copy} text=${text} what="text of the resource" /></div>`
      : isImage ? html`<${Picture} data=${blob} mimeType=${mimeType} />`
        : html`<${Download} data=${blob} mimeType=${mimeType} title="Binary data" />`}
  </div>`;
}

/** An image, decoded here and drawn: the page may load none. */
function Picture({ data, mimeType }) {
  const canvas = useRef();
  const [state, setState] = useState('decoding');
  const bytes = useMemo(() => fromBase64(data), [data]);
  const pixels = useContext(Pixels);
  useEffect(() => {
    if (!bytes) {
      setState('Its data is not base64, or too large');
      return undefined;
    }
    return show(bytes, pixels, bitmap => {
      const scale = Math.min(1, 1600 / Math.max(bitmap.width, bitmap.height));
      Object.assign(canvas.current,
        { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
      canvas.current.getContext('2d').drawImage(bitmap, 0, 0, canvas.current.width, canvas.current.height);
      setState(`${bitmap.width} × ${bitmap.height} pixels`);
    }, setState);
  }, [bytes, pixels]);
  const isShown = / × .* pixels$/.test(state) && !state.startsWith('It');
  return html`<figure class="picture">
    <canvas ref=${canvas} width="1" height="1" hidden=${!isShown} role="img" aria-label=${`Image, ${state}`}></canvas>
    <figcaption class="hint">
      ${isShown ? '' : 'Image: '}${state === 'decoding' ? '…' : state}${bytes ? html`, ${size(bytes.length)} ` : ' '}
      <${Text} value=${mimeType} max=${80} /> ${bytes && html`<${Save} bytes=${bytes} mimeType=${mimeType} />`}</figcaption>
  </figure>`;
}

function Download({ data, mimeType, title }) {
  const bytes = useMemo(() => fromBase64(data), [data]);
  return html`<p class="download">
    ${title}${mimeType && html`, <${Text} value=${mimeType} max=${80} />`}${bytes
    ? html`, ${size(bytes.length)} <${Save} bytes=${bytes} mimeType=${mimeType} />`
    : ': its data is not base64, or too large.'}</p>`;
}

const ENDINGS = { 'image/png': 'png', 'image/jpeg': 'jpg', 'image/gif': 'gif', 'image/webp': 'webp', 'audio/wav': 'wav',
  'audio/mpeg': 'mp3', 'audio/ogg': 'ogg', 'application/pdf': 'pdf', 'application/json': 'json', 'text/plain': 'txt' };

const endingOf = mimeType => (typeof mimeType === 'string' && Object.hasOwn(ENDINGS, mimeType) ? ENDINGS[mimeType] : 'bin');

/** Into a file, whose name and type are ours, so that nothing opens by itself. */
function Save({ bytes, mimeType }) {
  const save = () => {
    const url = URL.createObjectURL(new Blob([bytes], { type: 'application/octet-stream' }));
    const link = Object.assign(document.createElement('a'), { href: url, download: `result.${endingOf(mimeType)}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  return html`<button type="button" class="link" onClick=${save}>Save</button>`;
}

/** What became of a call that gave no result. */
export function CallFailure({ call }) {
  if (call.state === 'cancelled') return html`<${Notice} title="Cancelled"><p>The server was told to stop.</p></${Notice}>`;
  return html`<${Failure} error=${call.error} />`;
}

export const nameOf = item =>
  plain(typeof item.title === 'string' && item.title ? item.title : item.name ?? item.uri ?? item.uriTemplate, 120);
