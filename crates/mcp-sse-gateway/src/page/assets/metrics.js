// Prometheus text, as far as the table of tools needs it. Pure.

const MAX_LINES = 200_000;
const METRIC = 'mcp_server_operation_duration_seconds';

/** Lines as `{ name, labels, value }`, of those metrics whose name begins with `prefix`. */
export function* samples(text, prefix) {
  let from = 0;
  for (let lines = 0; from < text.length && lines < MAX_LINES; lines++) {
    let to = text.indexOf('\n', from);
    if (to < 0) to = text.length;
    if (text.startsWith(prefix, from)) {
      const sample = parseLine(text.slice(from, to));
      if (sample) yield sample;
    }
    from = to + 1;
  }
}

function parseLine(line) {
  const name = /^[A-Za-z_:][\w:]*/.exec(line)?.[0];
  if (!name) return undefined;
  const labels = new Map();
  let at = name.length;
  if (line[at] === '{') {
    const label = /\s*([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?/y;
    at += 1;
    for (;;) {
      label.lastIndex = at;
      const match = label.exec(line);
      if (!match) break;
      labels.set(match[1], match[2].replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char)));
      at = label.lastIndex;
    }
    if (line[at] !== '}') return undefined;
    at += 1;
  }
  const value = number(line.slice(at).trim().split(/\s/)[0]);
  return Number.isNaN(value) ? undefined : { name, labels, value };
}

const number = text => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : text === '' ? NaN : Number(text));

/** What is known of each tool: `{ server, tool, calls, errors, mean, p95 }`, times in seconds, the slowest first. */
export function tools(text) {
  const found = new Map();
  for (const { name, labels, value } of samples(text, METRIC)) {
    const tool = labels.get('gen_ai_tool_name');
    if (labels.get('mcp_method_name') !== 'tools/call' || tool === undefined) continue;
    const server = labels.get('server') ?? '';
    const key = JSON.stringify([server, tool]);
    let of = found.get(key);
    if (!of) found.set(key, of = { server, tool, calls: 0, errors: 0, sum: 0, buckets: new Map() });
    if (name.endsWith('_count')) {
      of.calls += value;
      if (labels.get('error_type')) of.errors += value;
    } else if (name.endsWith('_sum')) of.sum += value;
    else if (name.endsWith('_bucket')) {
      const le = number(labels.get('le') ?? '');
      of.buckets.set(le, (of.buckets.get(le) ?? 0) + value);
    }
  }
  return [...found.values()].filter(({ calls }) => calls > 0).map(({ buckets, sum, ...of }) => ({
    ...of, mean: sum / of.calls, p95: quantile(0.95, buckets, of.calls),
  })).sort((a, b) => b.p95 - a.p95 || b.mean - a.mean);
}

/** As Prometheus' `histogram_quantile` has it: linear within a bucket, and the last bound for what is beyond. */
export function quantile(q, buckets, count) {
  const bounds = [...buckets.keys()].filter(le => !Number.isNaN(le)).sort((a, b) => a - b);
  const rank = q * count;
  let below = 0;
  let lower = 0;
  for (const le of bounds) {
    const upTo = buckets.get(le);
    if (upTo >= rank) {
      if (le === Infinity) return lower;
      return upTo === below ? le : lower + (le - lower) * (rank - below) / (upTo - below);
    }
    below = upTo;
    lower = le;
  }
  return lower;
}
