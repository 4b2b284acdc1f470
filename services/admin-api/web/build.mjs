// Bundles the dashboard into the package of admin-api. Assets carry a hash of their content in their names, so that a
// browser may keep them for good; only index.html is looked at again.
import { build } from "esbuild";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

const here = new URL("./", import.meta.url);
const target = new URL("../src/admin_api/static/", here);

await rm(target, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: fileURLToPath(here),
  entryPoints: ["src/main.ts", "src/style.css", "src/icon.svg"],
  outdir: fileURLToPath(new URL("assets/", target)),
  entryNames: "[name]-[hash]",
  loader: { ".svg": "copy" },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "linked",
  metafile: true,
  logLevel: "warning",
});

const built = new Map(
  Object.entries(metafile.outputs)
    .filter(([, output]) => output.entryPoint !== undefined)
    .map(([path, output]) => [output.entryPoint, `assets/${basename(path)}`]),
);
const page = await readFile(new URL("index.html", here), "utf8");
const linked = page.replace(/(href|src)="(src\/[^"]+)"/g, (_, attribute, source) => {
  const asset = built.get(source);
  if (asset === undefined) throw new Error(`index.html: expected one of ${[...built.keys()].join(", ")}, got ${source}`);
  return `${attribute}="${asset}"`;
});
await mkdir(target, { recursive: true });
await writeFile(new URL("index.html", target), linked);
console.log(`dashboard built: ${Object.keys(metafile.outputs).length + 1} files`);
