// Images of strangers: what they are and how large, from their first bytes, before any of it is decoded.

const MAX_PIXELS = 40_000_000;
const MAX_BYTES = 20 * 1024 * 1024;
/** Of all the images of a result together. */
const MAX_PIXELS_OF_RESULT = 100_000_000;
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** The bytes of base64, or undefined. */
export function fromBase64(text) {
  if (typeof text !== 'string' || text.length > MAX_BYTES * 4 / 3) return undefined;
  try {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  } catch {
    return undefined;
  }
}

/** `{ type, width, height }` of a PNG, JPEG, GIF or WebP. */
export function measure(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ascii = (from, length) => String.fromCharCode(...bytes.subarray(from, from + length));
  try {
    if (PNG.every((byte, i) => bytes[i] === byte)) {
      return { type: 'image/png', width: view.getUint32(16), height: view.getUint32(20) };
    }
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

/** How many pixels the images of one result may still have. */
export class PixelBudget {
  #left = MAX_PIXELS_OF_RESULT;

  take(pixels) {
    if (pixels > this.#left) return false;
    this.#left -= pixels;
    return true;
  }

  giveBack(pixels) {
    this.#left += pixels;
  }
}

let queue = Promise.resolve();

/**
 * Calls `draw(bitmap)` in its turn, since only one image is decoded at a time, or fails with why there is none. Gives a function
 * that has to be called when the image is not shown any more: it is not decoded then, if it was not yet.
 */
export function show(bytes, budget, draw, fail) {
  const size = measure(bytes);
  const pixels = size ? size.width * size.height : 0;
  let isGone = false;
  if (!size) fail('It is no PNG, JPEG, GIF or WebP image');
  else if (!pixels || pixels > MAX_PIXELS) fail(`It is ${size.width} × ${size.height} pixels, too large to show`);
  else if (!budget.take(pixels)) fail(`It is ${size.width} × ${size.height} pixels, too large to show with those before it`);
  else {
    queue = queue.then(() => !isGone && decode(bytes, size.type, bitmap => { if (!isGone) draw(bitmap); }))
      .catch(error => { if (!isGone) fail(error.message); });
    return () => {
      isGone = true;
      budget.giveBack(pixels);
    };
  }
  return undefined;
}

async function decode(bytes, type, use) {
  const bitmap = await createImageBitmap(new Blob([bytes], { type }));
  try {
    use(bitmap);
  } finally {
    bitmap.close();
  }
}
