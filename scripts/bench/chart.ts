/** Ratios as a picture (SVG): a line for each row and state, a mark for each peer, 1.0 in the middle of a logarithmic scale. */
import { type Figure, geometricMean, STATES } from './figures.ts';

/** What the scale shows; a ratio outside of it is drawn at its end, with its number. */
const LEAST = 0.01;
const MOST = 100;
const TICKS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];

const WIDTH = 1000;
const LEFT = 150;
const RIGHT = 40;
const TOP = 110;
const LINE = 24;
const BOTTOM = 60;

/** Told apart by the colour-blind, too. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#8a6d00'];
const INK = '#222222';
const FAINT = '#dddddd';

/** @param all  of one mode. */
export function chart(all: readonly Figure[]): string {
  const [first] = all;
  if (first === undefined) return '';
  const peers = unique(all.map(({ peer }) => peer));
  const lines = unique(all.map(({ row }) => row)).flatMap((row) =>
    STATES.map((state) => all.filter((one) => one.row === row && one.state === state)).filter(
      (some) => some.length > 0,
    ),
  );
  const bottom = TOP + lines.length * LINE;
  const parts = [
    text(LEFT, 28, 'start', `ostree-ts (${first.mode}): its time divided by that of others`, 18),
    text(
      LEFT,
      48,
      'start',
      'left of 1: ostree-ts is faster; the bars are the lowest and highest of the rounds',
    ),
    ...legend(peers, all),
    ...grid(bottom),
    ...lines.flatMap((figures, index) => line(figures, peers, TOP + index * LINE)),
    text(LEFT, bottom + 44, 'start', `${first.machine}; ${first.date}`, 11),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${bottom + BOTTOM}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

/** Where a ratio is on the scale, in pixels. */
export function position(ratio: number): number {
  const within = Math.min(MOST, Math.max(LEAST, ratio));
  const share = Math.log(within / LEAST) / Math.log(MOST / LEAST);
  return round(LEFT + share * (WIDTH - LEFT - RIGHT));
}

function legend(peers: readonly string[], all: readonly Figure[]): string[] {
  return peers.flatMap((peer, index) => {
    const x = LEFT + (index * (WIDTH - LEFT - RIGHT)) / peers.length;
    const ratios = all.filter((one) => one.peer === peer).map(({ ratio }) => ratio);
    const mean = geometricMean(ratios).toPrecision(2);
    return [
      mark(x + 6, 70, colour(index)),
      text(x + 16, 74, 'start', peer),
      text(x + 16, 88, 'start', `mean ${mean} of ${ratios.length}`, 10),
    ];
  });
}

function grid(bottom: number): string[] {
  return TICKS.flatMap((tick) => {
    const x = position(tick);
    const [stroke, width] = tick === 1 ? [INK, 1.5] : [FAINT, 1];
    return [
      `<line x1="${x}" y1="${TOP - 6}" x2="${x}" y2="${bottom}" stroke="${stroke}" stroke-width="${width}"/>`,
      text(x, bottom + 18, 'middle', String(tick), 11),
    ];
  });
}

function line(figures: readonly Figure[], peers: readonly string[], top: number): string[] {
  const [first] = figures;
  if (first === undefined) return [];
  const { row, state } = first;
  const parts = [
    `<line x1="${LEFT}" y1="${top + LINE}" x2="${WIDTH - RIGHT}" y2="${top + LINE}" stroke="${FAINT}" stroke-width="0.5"/>`,
    text(LEFT - 8, top + LINE / 2 + 4, 'end', state === '-' ? row : `${row}, ${state}`),
  ];
  for (const [index, peer] of peers.entries()) {
    const figure = figures.find((one) => one.peer === peer);
    if (figure === undefined) continue;
    const y = round(top + (LINE * (index + 1)) / (peers.length + 1));
    const [low, high] = figure.spread.map(position);
    parts.push(
      `<line x1="${low}" y1="${y}" x2="${high}" y2="${y}" stroke="${colour(index)}" stroke-width="1.5" opacity="0.5"/>`,
      mark(position(figure.ratio), y, colour(index), `${row} ${peer} ${figure.ratio}`),
    );
    const isLess = figure.ratio < LEAST;
    if (isLess || figure.ratio > MOST) {
      const aside = 8 + 55 * index;
      const x = position(figure.ratio) + (isLess ? aside : -aside);
      parts.push(text(x, y + 3, isLess ? 'start' : 'end', String(figure.ratio), 9, colour(index)));
    }
  }
  return parts;
}

function mark(x: number, y: number, fill: string, title?: string): string {
  const inner = title === undefined ? '' : `<title>${escaped(title)}</title>`;
  return `<circle cx="${x}" cy="${y}" r="3.5" fill="${fill}">${inner}</circle>`;
}

function text(
  x: number,
  y: number,
  anchor: 'start' | 'middle' | 'end',
  words: string,
  size: number = 12,
  fill: string = INK,
): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}" fill="${fill}">${escaped(words)}</text>`;
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function colour(index: number): string {
  return COLOURS[index % COLOURS.length] ?? INK;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function unique(words: readonly string[]): string[] {
  return [...new Set(words)];
}
