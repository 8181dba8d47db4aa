// The log of every message that crossed the wire, within bounds.

import { Store } from './store.js';
import { cut, detached, plain } from './text.js';

const MAX_MESSAGES = 2000;
const MAX_TEXT = 8 * 1024 * 1024;
/** Of one message. */
const MAX_ONE = 1024 * 1024;

const utf8 = new TextEncoder();

export class WireLog extends Store {
  entries = [];
  dropped = 0;
  total = 0;
  #size = 0;
  #next = 1;

  add({ out, text, message, of, time = new Date() }) {
    const isWhole = text.length <= MAX_ONE;
    const { kind, title } = kindOf(message, of);
    this.entries.push({
      n: this.#next++, time, out, size: isWhole ? utf8.encode(text).length : text.length, isWhole,
      text: isWhole ? text : detached(text.slice(0, MAX_ONE)),
      kind, title: detached(title),
    });
    this.total += 1;
    this.#size += Math.min(text.length, MAX_ONE);
    // Several at once, so that a full log is not moved for every message.
    if (this.entries.length > MAX_MESSAGES + 200 || this.#size > MAX_TEXT) this.#drop();
    this.changed();
  }

  #drop() {
    let count = Math.max(0, this.entries.length - MAX_MESSAGES);
    let size = this.#size;
    for (let i = 0; i < this.entries.length; i++) {
      if (i >= count && size <= MAX_TEXT) break;
      size -= this.entries[i].text.length;
      count = Math.max(count, i + 1);
    }
    this.entries.splice(0, count);
    this.#size = size;
    this.dropped += count;
  }

  clear() {
    this.entries = [];
    this.#size = 0;
    this.dropped = 0;
    this.changed();
  }
}

/** What a message is, in a word, and what it is about. */
function kindOf(message, of) {
  if (message === undefined) return { kind: 'no JSON', title: 'not JSON' };
  if (Array.isArray(message)) return { kind: 'batch', title: `batch of ${message.length}` };
  if (message === null || typeof message !== 'object') return { kind: 'no message', title: 'not a message' };
  const { id, method, params, error } = message;
  const number = id === undefined || id === null ? '' : ` #${plain(id, 20)}`;
  if (typeof method === 'string') {
    const about = params?.name ?? params?.uri ?? params?.ref?.name ?? progress(method, params) ?? '';
    const title = plain(`${cut(method, 100)} ${typeof about === 'string' ? cut(about, 100) : ''}`.trim());
    return { kind: number ? 'request' : 'notification', title: `${title.replace(/^notifications\//, '')}${number}` };
  }
  const title = of ? plain(of, 100) : '';
  if (error !== undefined) return { kind: 'error', title: `${title || 'error'}${number}` };
  return { kind: 'result', title: `${title || 'result'}${number}` };
}

function progress(method, params) {
  if (method === 'notifications/message') return plain(params?.level, 20);
  if (method !== 'notifications/progress') return undefined;
  return `${plain(params?.progress, 20)}${params?.total === undefined ? '' : ` of ${plain(params.total, 20)}`}`;
}
