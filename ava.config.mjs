/** What takes longest begins first, beside all others. */
const FIRST = [
  'package',
  'ostree-layer',
  'ostree',
  'cli-process',
  'native-channel',
  'ostree-writer',
];

/** @param {string} file @returns the place in FIRST, or behind all of it. */
function rank(file) {
  const index = FIRST.findIndex((name) => file.endsWith(`/${name}.test.js`));
  return index === -1 ? FIRST.length : index;
}

export default {
  files: ['build/test/**/*.test.js'],
  sortTestFiles: (/** @type {string} */ a, /** @type {string} */ b) =>
    rank(a) - rank(b) || a.localeCompare(b),
  nodeArguments: ['--enable-source-maps'],
  workerThreads: false,
  timeout: '5m',
};
