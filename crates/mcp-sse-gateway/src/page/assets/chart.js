// A small line chart of the last minutes, with the same in words.

import { html, useId } from './ui.js';

const WIDTH = 300;
const HEIGHT = 72;

const SHORTEST_MS = 60_000;

/** `points` are `{ time, value }`, oldest first, with null where nothing is known; of those of the last `most` milliseconds. */
export function Chart({ title, points, most, now, format, unit = '' }) {
  const id = useId();
  const span = Math.min(most, Math.max(SHORTEST_MS, now - (points[0]?.time ?? now)));
  const minutes = Math.round(span / 60_000);
  const known = points.filter(({ value }) => value !== null);
  const last = known.at(-1)?.value;
  const highest = known.reduce((most, { value }) => Math.max(most, value), 0);
  const lowest = known.reduce((least, { value }) => Math.min(least, value), Infinity);
  const top = ceiling(highest);
  const x = time => WIDTH - (now - time) / span * WIDTH;
  const y = value => HEIGHT - 4 - value / top * (HEIGHT - 12);
  const say = value => `${format(value)}${unit}`;
  const runs = split(points);
  return html`<figure class="chart" aria-labelledby=${`${id}-title`}>
    <figcaption>
      <span class="chart-title" id=${`${id}-title`}>${title}</span>
      <span class="chart-now">${last === undefined ? '–' : say(last)}</span>
    </figcaption>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <line class="grid" x1="0" x2=${WIDTH} y1=${HEIGHT - 4} y2=${HEIGHT - 4} />
      <line class="grid faint" x1="0" x2=${WIDTH} y1=${y(top)} y2=${y(top)} />
      ${runs.map((run, i) => {
        const line = run.map(({ time, value }) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
        return html`<g key=${i}>
          <polygon class="area" points=${`${x(run[0].time).toFixed(1)},${HEIGHT - 4} ${line} ${x(run.at(-1).time).toFixed(1)},${HEIGHT - 4}`} />
          <polyline class="line" points=${line} /></g>`;
      })}
    </svg>
    <p class="chart-words">${last === undefined ? 'Nothing is known yet.'
      : `${minutes === 1 ? 'Last minute' : `Last ${minutes} minutes`}: ${lowest === highest ? `${say(lowest)} all the time`
      : `${say(lowest)} to ${say(highest)}`}`}</p>
  </figure>`;
}

/** Where nothing is known, the line has a gap. */
function split(points) {
  const runs = [[]];
  for (const point of points) {
    if (point.value === null) runs.push([]);
    else runs.at(-1).push(point);
  }
  return runs.filter(run => run.length > 0);
}

/** A round number above the values. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(n => n * power).find(n => n >= value) ?? value;
}
