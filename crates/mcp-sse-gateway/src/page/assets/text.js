// How strangers' text and numbers are written down: cut to a length, with what cannot be seen made visible, and JSON that
// is printed within bounds. Pure, so that it also runs without a page.

/** Controls, and characters that reorder or hide others. Line breaks and tabs stay. */
const HIDDEN = new RegExp(
  '[\\u0000-\\u0008\\u000b\\u000c\\u000d\\u000e-\\u001f\\u007f-\\u009f' // C0 and C1
  + '\\u00ad\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f' // bidi, invisible
  + '\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\p{Co}]', 'gu');

/** `text` in pieces: strings that can be shown as they are, and `{ code }` for what must be made visible. */
export function pieces(text, maxHidden = 500) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    // A line break of Windows is one.
    if (match[0] === '\r' && text[match.index + 1] === '\n') continue;
    if (found.length > 2 * maxHidden) break;
    if (match.index > from) found.push(text.slice(from, match.index));
    found.push({ code: match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0') });
    from = match.index + match[0].length;
  }
  // Beyond the bound they are dropped, so that none is left that could reorder what follows.
  if (from < text.length) found.push(found.length > 2 * maxHidden ? text.slice(from).replace(HIDDEN, '') : text.slice(from));
  return found;
}

/** Whatever it is as text. An object is not asked for it: of a stranger's, `toString` may be anything. */
export function asText(value, max) {
  if (typeof value === 'string') return value;
  if (value === undefined || value === null) return '';
  return typeof value === 'object' ? compact(value, max) : String(value);
}

/** The same in one string, for places that take no elements. */
export function plain(text, max = 200) {
  return cut(asText(text, max), max).replace(HIDDEN, char => `\\u{${char.codePointAt(0).toString(16).toUpperCase()}}`);
}

/** At most `max` characters, ending in `…` if there were more; never half a character. */
export function cut(text, max) {
  if (text.length <= max) return text;
  const last = text.charCodeAt(max - 1);
  return `${text.slice(0, last >= 0xd800 && last < 0xdc00 ? max - 1 : max)}…`;
}

/** A copy that does not keep a longer string alive behind it. */
export function detached(text) {
  return new TextDecoder().decode(new TextEncoder().encode(text));
}

/** `value` as JSON with line breaks, within `max` characters and `depth` levels. `whole` says if all of it is there. */
export function pretty(value, { max = 100_000, depth = 40 } = {}) {
  const out = [];
  let length = 0;
  let whole = true;
  const put = text => {
    if (length + text.length > max) {
      whole = false;
      out.push(cut(text, Math.max(0, max - length)));
      length = Infinity;
      return false;
    }
    out.push(text);
    length += text.length;
    return true;
  };
  const walk = (value, level) => {
    if (length === Infinity) return;
    if (value === null || typeof value !== 'object') {
      const text = typeof value === 'string' ? value : JSON.stringify(value) ?? 'null';
      if (typeof value !== 'string') put(text);
      else if (text.length > max) { whole = false; put(JSON.stringify(cut(text, max))); } else put(JSON.stringify(text));
      return;
    }
    const isArray = Array.isArray(value);
    const keys = isArray ? value : Object.keys(value);
    if (!keys.length) return void put(isArray ? '[]' : '{}');
    if (level >= depth) {
      whole = false;
      return void put(isArray ? '[…]' : '{…}');
    }
    const indent = '  '.repeat(level + 1);
    put(isArray ? '[\n' : '{\n');
    for (let i = 0; i < keys.length && length < Infinity; i++) {
      put(isArray ? indent : `${indent}${JSON.stringify(cut(keys[i], 1000))}: `);
      walk(isArray ? value[i] : value[keys[i]], level + 1);
      put(i + 1 < keys.length ? ',\n' : '\n');
    }
    if (length < Infinity) put(`${'  '.repeat(level)}${isArray ? ']' : '}'}`);
  };
  walk(value, 0);
  return { text: out.join(''), whole };
}

/** JSON of a value that may be too deep for `JSON.stringify`. */
export function compact(value, max = 200) {
  try {
    return cut(JSON.stringify(value) ?? '', max);
  } catch {
    return cut(pretty(value, { max: max * 4, depth: 6 }).text.replace(/\s+/g, ' '), max);
  }
}

export function bytes(count) {
  if (!Number.isFinite(count)) return '–';
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit && count < 9.95 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function milliseconds(ms) {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 1) return `${ms < 0.1 ? '< 0.1' : ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 100_000 ? `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s` : age(ms / 1000);
}

export function age(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** A number that is read at a glance. */
export function count(value) {
  if (!Number.isFinite(value)) return '–';
  if (value !== 0 && Math.abs(value) < 10 && !Number.isInteger(value)) return value.toFixed(1);
  return Math.round(value).toLocaleString('en');
}

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

/** The time of day, to the millisecond. */
export function clock(date) {
  const two = n => String(n).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3,
    '0')}`;
}
