/** Makes the programs of a build: what is started is bundled and compiled, so that Node has it running sooner. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

/** The programs that people start; they share what they load. */
const PROGRAMS = ['cli/main', 'cli/mount'];
/** What a session waits for, and that loads nothing later. */
const WAITED_FOR = ['session/daemon', 'fuse/worker'];
/** A thread that loads little, and a program for those who need it. */
const APART = ['layers/inflate-thread', 'fuse/libfuse-worker'];

/**
 * Makes one file of each program, in the folders that its source is in, and parts of what it is made of in `parts/`: whatever it
 * loads only when it is needed is a part of its own. To load fifty modules takes longer than to start Node, and so does
 * compiling what is not used; parts are compiled here (`compile`), and run by `start`. What a module finds beside itself it must
 * name as `../FOLDER/FILE`, which leads to the same from the bundle.
 *
 * @param {string} sources  The folder of the compiled modules.
 * @param {string} outdir
 */
export async function bundle(sources, outdir) {
  // Installed by the set-up itself.
  const { buildSync, transformSync } = await import('esbuild');
  /** @type {import('esbuild').BuildOptions} */
  const common = {
    outbase: sources,
    outdir,
    bundle: true,
    // Of the names, traces of bugs need to be readable.
    minifySyntax: true,
    minifyWhitespace: true,
    platform: 'node',
    target: 'node20',
    sourcemap: true,
    logLevel: 'warning',
    // Loaded only by those who need them.
    external: ['@hpcc-js/wasm-zstd', 'fzstd', '../fuse/libfuse-worker.js'],
  };
  const modules = (/** @type {string[]} */ names) =>
    names.map((name) => join(sources, `${name}.js`));
  for (const name of APART) {
    buildSync({
      ...common,
      entryPoints: modules([name]),
      format: 'esm',
      // For dependencies that are no ES modules.
      banner: {
        js: "import { createRequire as requireFor } from 'node:module'; const require = requireFor(import.meta.url);",
      },
    });
  }
  const parts = {
    ...common,
    entryNames: 'parts/[name]-[hash]',
    chunkNames: 'parts/[name]-[hash]',
    format: /** @type {const} */ ('esm'),
    sourcemap: /** @type {const} */ ('inline'),
    write: /** @type {const} */ (false),
  };
  const made = [
    ...WAITED_FOR.map((name) => buildSync({ ...parts, entryPoints: modules([name]) })),
    buildSync({ ...parts, entryPoints: modules(PROGRAMS), splitting: true }),
  ].flatMap(({ outputFiles }) => outputFiles);
  mkdirSync(join(outdir, 'parts'), { recursive: true });
  for (const { path, text } of made) {
    // They would hide what parts are given.
    const taken = /\b__(?:url|part|load)\b/.exec(text);
    if (taken !== null) throw new Error(`${path} has a ${taken[0]} of its own`);
    const lazily = /\bimport\("\.\/([^"]*)\.js"\)/g;
    const { code, map } = transformSync(
      text
        .replace(/^#!.*/, '')
        .replaceAll(lazily, 'Promise.resolve().then(()=>require("./$1.js"))'),
      {
        format: 'cjs',
        platform: 'node',
        target: 'node20',
        define: { 'import.meta.url': '__url' },
        minifySyntax: true,
        minifyWhitespace: true,
        sourcefile: basename(path),
        sourcemap: true,
      },
    );
    const loading = code
      .replaceAll(/\brequire\("\.\/([^"]*)\.js"\)/g, '__part("$1")')
      .replaceAll(/\bimport\(("[^"]*")\)/g, '__load($1)');
    const whole = `(function(module,exports,require,__url,__part,__load){${loading}})\n//# sourceMappingURL=${basename(path)}.map\n`;
    writeFileSync(path, whole);
    writeFileSync(`${path}.map`, map);
    writeFileSync(`${path}.${process.arch}-${process.versions.v8}`, compile(whole, basename(path)));
  }
  for (const name of [...PROGRAMS, ...WAITED_FOR]) {
    const part = made
      .map(({ path }) => basename(path, '.js'))
      .find((each) => each.startsWith(`${basename(name)}-`));
    const path = join(outdir, `${name}.cjs`);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(
      path,
      `#!/usr/bin/env node\n(${String(start)})(require,(module)=>import(module),__dirname,${JSON.stringify(part)});\n`,
    );
    chmodSync(path, 0o755);
  }
}

/**
 * What a program consists of, beside its parts: runs them from what V8 has made of them, if it was the same V8, and without
 * Node's search for files. It stands in programs as text, so it can use nothing around it.
 *
 * @param {NodeJS.Require} require  The program's.
 * @param {(module: string) => Promise<unknown>} load  The program's `import`.
 * @param {string} folder  The program's.
 * @param {string} first  The name of its first part.
 */
function start(require, load, folder, first) {
  const { readFileSync } = require('node:fs');
  const vm = require('node:vm');
  const base = require('node:url').pathToFileURL(`${folder}/../parts/`).href;
  /** @param {string} path */
  const compiled = (path) => {
    // What counts how often lines run needs to see them compiled, with their place.
    if (process.env['NODE_V8_COVERAGE'] !== undefined) return undefined;
    try {
      return readFileSync(`${path}.${process.arch}-${process.versions.v8}`);
    } catch {
      // It was another V8.
      return undefined;
    }
  };
  const loaded = new Map();
  /** @param {string} name */
  const part = (name) => {
    const known = loaded.get(name);
    if (known !== undefined) return known.exports;
    const module = { exports: {} };
    loaded.set(name, module);
    const path = `${folder}/../parts/${name}.js`;
    const moduleUrl = `${base}${name}.js`;
    const options = { filename: moduleUrl, cachedData: compiled(path) };
    const script = new vm.Script(readFileSync(path, 'utf8'), options);
    script.runInThisContext()(module, module.exports, require, moduleUrl, part, load);
    return module.exports;
  };
  part(first);
}

/**
 * What V8 makes of a script, all functions of it, in the form in which it reads it again.
 *
 * @param {string} text
 * @param {string} filename  What traces of errors call it.
 */
function compile(text, filename) {
  // A flag of V8's compiler, as it is at the end.
  setFlagsFromString('--no-lazy');
  const script = new Script(text, { filename });
  setFlagsFromString('--lazy');
  return script.createCachedData();
}
