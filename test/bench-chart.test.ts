/** The picture that the benchmark draws: everything that was measured is in it, where it belongs. */
import test from 'ava';
import { chart, position } from '../scripts/bench/chart.ts';
import type { Figure } from '../scripts/bench/figures.ts';

const FIGURE: Figure = {
  row: 'walk',
  state: 'cold',
  mode: 'memory/cached',
  peer: 'overlayfs',
  ratio: 2,
  spread: [1.5, 3],
  ours_ms: 2,
  peer_ms: 1,
  ours_cpu_ms: 1,
  peer_cpu_ms: 0,
  ours_rss_mib: 100,
  peer_rss_mib: 0,
  rounds: 3,
  uncertain: false,
  machine: 'a <machine> & more',
  date: '2026-01-31',
};

test('the scale is logarithmic, with 1 in the middle and what is beyond at its ends', (t) => {
  const [least, one, most] = [position(0.01), position(1), position(100)];
  t.is(one - least, most - one);
  t.is(Math.round(position(10) - one), Math.round(one - position(0.1)));
  t.is(position(0.000_1), least);
  t.is(position(1e6), most);
});

test('each row, state and peer has its mark, with the rounds as a bar', (t) => {
  const figures: Figure[] = [
    FIGURE,
    { ...FIGURE, state: 'warm', ratio: 0.5, spread: [0.4, 0.6] },
    { ...FIGURE, peer: 'fuse-overlayfs', ratio: 0.001, spread: [0.001, 0.002] },
    { ...FIGURE, row: 'tar', state: '-', peer: 'fuse-overlayfs', ratio: 0.7, spread: [0.6, 0.8] },
  ];
  const svg = chart(figures);
  for (const words of [
    '>walk, cold<',
    '>walk, warm<',
    '>tar<',
    '>overlayfs<',
    '>fuse-overlayfs<',
  ]) {
    t.true(svg.includes(words), words);
  }
  for (const { row, peer, ratio, spread } of figures) {
    t.true(svg.includes(`<title>${row} ${peer} ${ratio}</title>`));
    t.regex(svg, new RegExp(`cx="${position(ratio)}"[^>]*><title>${row} ${peer} ${ratio}<`));
    t.true(svg.includes(`<line x1="${position(spread[0])}" `));
  }
  // What is beyond the scale is told.
  t.regex(svg, /font-size="9"[^>]*>0\.001</);
  t.true(svg.includes('a &lt;machine&gt; &amp; more; 2026-01-31'));
  t.is(svg.match(/<text/g)?.length, svg.match(/<\/text>/g)?.length);
});

test('nothing measured is no picture', (t) => {
  t.is(chart([]), '');
});
