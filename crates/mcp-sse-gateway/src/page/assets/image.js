// Images of strangers: what they are and how large, from their first bytes, before any of it is decoded.

const MAX_PIXELS = 40_000_000;
const MAX_BYTES = 20 * 1024 * 1024;

/** The bytes of base64, or undefined. */
export function fromBase64(text) {
  if (typeof text !== 'string' || text.length > MAX_BYTES * 4 / 3) return undefined;
  try {
    return Uint8Array.from(atob(text), char => char.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/** `{ type, width, height }` of a PNG, JPEG, GIF or WebP. */
export function measure(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ascii = (from, length) => String.fromCharCode(...bytes.subarray(from, from + length));
  try {
    if (ascii(1, 3) === 'PNG') return { type: 'image/png', width: view.getUint32(16), height: view.getUint32(20) };
    if (ascii(0, 4) === 'GIF8') return { type: 'image/gif', width: view.getUint16(6, true), height: view.getUint16(8, true) };
    if (ascii(0, 4) === 'RIFF' && ascii(8, 4) === 'WEBP') return measureWebp(view, ascii(12, 4));
    if (view.getUint16(0) === 0xffd8) return measureJpeg(view);
  } catch {
    // Shorter than it should be.
  }
  return undefined;
}

function measureWebp(view, kind) {
  const type = 'image/webp';
  const at24 = offset => view.getUint16(offset, true) | view.getUint8(offset + 2) << 16;
  if (kind === 'VP8X') return { type, width: at24(24) + 1, height: at24(27) + 1 };
  if (kind === 'VP8 ') return { type, width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  const bits = view.getUint32(21, true);
  return { type, width: (bits & 0x3fff) + 1, height: (bits >> 14 & 0x3fff) + 1 };
}

function measureJpeg(view) {
  for (let at = 2; view.getUint8(at) === 0xff;) {
    const marker = view.getUint8(at + 1);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return { type: 'image/jpeg', width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    at += 2 + view.getUint16(at + 2);
  }
  return undefined;
}

/** A bitmap to draw, or an error that says why there is none. */
export async function decode(bytes) {
  const size = measure(bytes);
  if (!size) throw new Error('It is no PNG, JPEG, GIF or WebP image');
  if (!size.width || !size.height
    || size.width * size.height > MAX_PIXELS) throw new Error(`It is ${size.width} × ${size.height} pixels, too large to show`);
  return createImageBitmap(new Blob([bytes], { type: size.type }));
}
