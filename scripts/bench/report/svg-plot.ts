/** One curve. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

const WIDTH = 460;
const HEIGHT = 280;
const MARGIN = { left: 62, right: 14, top: 30, bottom: 44 } as const;

/** Distinguishable by people who see few colours, too: Okabe and Ito's palette. */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'] as const;

/**
 * Curves over numbers, from zero; the y axis by powers of ten where it spans more than two of them.
 */
export function linePlot(options: {
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
}): string {
  const { title, xLabel, yLabel, series } = options;
  const all = series.flatMap(({ points }) => points);
  const xMax = Math.max(...all.map(([x]) => x), 1);
  const ys = all.map(([, y]) => y).filter((y) => y > 0);
  const isLog = Math.max(...ys) > 100 * Math.min(...ys);
  const yAxis = isLog ? logAxis(ys) : linearAxis(Math.max(...ys, 1e-9));
  const xAxis = linearAxis(xMax);
  const at = ([x, y]: readonly [number, number]): string =>
    `${placeX(xAxis.share(x)).toFixed(1)},${placeY(yAxis.share(y)).toFixed(1)}`;
  const curves = series.map(({ points }, index) => {
    const colour = COLOURS[index % COLOURS.length];
    const dots = points.map((point) => {
      const [cx, cy] = at(point).split(',');
      return `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"><title>${point.map(tick).join(', ')}</title></circle>`;
    });
    const line = `<polyline points="${points.map(at).join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`;
    return line + dots.join('');
  });
  return frame({
    title,
    xLabel,
    yLabel,
    inside: [...xTicks(xAxis), ...yTicks(yAxis), ...curves, legend(series)].join(''),
  });
}

/** One bar for each name. */
export function barPlot(options: {
  title: string;
  xLabel: string;
  yLabel: string;
  bars: readonly (readonly [name: string, value: number])[];
}): string {
  const { title, xLabel, yLabel, bars } = options;
  const yAxis = linearAxis(Math.max(...bars.map(([, value]) => value), 1e-9));
  const step = (WIDTH - MARGIN.left - MARGIN.right) / Math.max(1, bars.length);
  const drawn = bars.map(([name, value], index) => {
    const x = MARGIN.left + index * step;
    const y = placeY(yAxis.share(value));
    const height = placeY(0) - y;
    // More names than room: every n-th is written.
    const isNamed = index % Math.ceil(bars.length / 16) === 0;
    const label = isNamed ? text(x + step / 2, HEIGHT - 28, name, 'middle') : '';
    return (
      `<rect x="${(x + step * 0.1).toFixed(1)}" y="${y.toFixed(1)}" width="${(step * 0.8).toFixed(1)}" ` +
      `height="${height.toFixed(1)}" fill="${COLOURS[0]}"><title>${escapeXml(name)}: ${tick(value)}</title></rect>${label}`
    );
  });
  return frame({ title, xLabel, yLabel, inside: [...yTicks(yAxis), ...drawn].join('') });
}

/** Makes text safe inside HTML and SVG. */
export function escapeXml(raw: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  };
  return raw.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}

interface Axis {
  readonly ticks: readonly number[];
  /** Where a value lies on the axis, 0 to 1. */
  share(value: number): number;
}

function linearAxis(max: number): Axis {
  const power = 10 ** Math.floor(Math.log10(max));
  const step = [0.2, 0.5, 1, 2].map((factor) => factor * power).find((size) => max / size <= 6);
  const size = step ?? power * 2;
  const top = Math.ceil(max / size) * size;
  const count = Math.round(top / size);
  return {
    ticks: Array.from({ length: count + 1 }, (_, index) => index * size),
    share: (value) => value / top,
  };
}

function logAxis(values: readonly number[]): Axis {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)));
  return {
    ticks: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)),
    share: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low),
  };
}

function placeX(share: number): number {
  return MARGIN.left + share * (WIDTH - MARGIN.left - MARGIN.right);
}

function placeY(share: number): number {
  return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.top - MARGIN.bottom);
}

function xTicks(axis: Axis): string[] {
  return axis.ticks.map((value) =>
    text(placeX(axis.share(value)), HEIGHT - 28, tick(value), 'middle'),
  );
}

function yTicks(axis: Axis): string[] {
  return axis.ticks.map((value) => {
    const y = placeY(axis.share(value));
    const line = `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y}" y2="${y}" stroke="#ddd"/>`;
    return line + text(MARGIN.left - 6, y + 4, tick(value), 'end');
  });
}

function legend(series: readonly Series[]): string {
  return series
    .map(({ name }, index) => {
      const y = MARGIN.top + 12 + index * 15;
      const colour = COLOURS[index % COLOURS.length];
      const mark = `<rect x="${MARGIN.left + 8}" y="${y - 8}" width="9" height="9" fill="${colour}"/>`;
      return mark + text(MARGIN.left + 22, y, name, 'start');
    })
    .join('');
}

function frame(parts: { title: string; xLabel: string; yLabel: string; inside: string }): string {
  const middle = (HEIGHT - MARGIN.bottom + MARGIN.top) / 2;
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img">` +
    `<text x="${WIDTH / 2}" y="16" text-anchor="middle" font-weight="bold">${escapeXml(parts.title)}</text>` +
    parts.inside +
    text(WIDTH / 2, HEIGHT - 8, parts.xLabel, 'middle') +
    `<text transform="translate(13 ${middle}) rotate(-90)" text-anchor="middle">${escapeXml(parts.yLabel)}</text>` +
    '</svg>'
  );
}

function text(x: number, y: number, words: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escapeXml(words)}</text>`;
}

/** `12k` for twelve thousand; else up to three digits that count. */
function tick(value: number): string {
  if (Math.abs(value) >= 10_000) return `${Number((value / 1000).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}
