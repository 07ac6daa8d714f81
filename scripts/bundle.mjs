/** Makes the programs of a build: what is started is bundled, so that Node has it running sooner. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** The programs that people start; they share what they load. */
const PROGRAMS = ['cli/main', 'cli/mount'];
/** What a session waits for, and that loads nothing later. */
const WAITED_FOR = ['session/daemon', 'fuse/worker'];
/** A thread that loads little, and a program for those who need it. */
const APART = ['layers/inflate-thread', 'fuse/libfuse-worker'];

/**
 * Makes one file of each program, in the folders that its source is in, and one in `parts/` of whatever it loads only when it is
 * needed: to load fifty modules takes longer than to start Node, and so does compiling what is not used. What is waited for is
 * CommonJS: Node has it running 25 ms sooner than ES modules. What a module finds beside itself it must name as
 * `../FOLDER/FILE`, which leads to the same from the bundle.
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
  /** @type {import('esbuild').CommonOptions & { format: 'cjs', platform: 'node' }} */
  const commonjs = {
    format: 'cjs',
    platform: 'node',
    target: 'node20',
    define: { 'import.meta.url': 'moduleUrl' },
  };
  const banner = "const moduleUrl = require('node:url').pathToFileURL(__filename).href;";
  const outExtension = { '.js': '.cjs' };
  buildSync({
    ...common,
    ...commonjs,
    entryPoints: modules(WAITED_FOR),
    outExtension,
    banner: { js: banner },
  });
  // Only ES modules can be split: each part is translated after that.
  const { outputFiles } = buildSync({
    ...common,
    entryPoints: modules(PROGRAMS),
    outExtension,
    splitting: true,
    chunkNames: 'parts/[name]-[hash]',
    format: 'esm',
    sourcemap: 'inline',
    write: false,
  });
  for (const { path, text } of outputFiles) {
    const { code, map } = transformSync(
      text.replaceAll(/\bimport\(("\.[^"]*\.cjs")\)/g, 'Promise.resolve().then(()=>require($1))'),
      {
        ...commonjs,
        minifySyntax: true,
        minifyWhitespace: true,
        banner,
        sourcefile: basename(path),
        sourcemap: true,
      },
    );
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${code}//# sourceMappingURL=${basename(path)}.map\n`);
    writeFileSync(`${path}.map`, map);
  }
}
