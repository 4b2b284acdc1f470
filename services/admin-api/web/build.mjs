// Bundles the dashboard into the package of admin-api. Assets carry a hash of their content in their names, so that a
// browser may keep them for good; only the pages are looked at again.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

const here = new URL("./", import.meta.url);
const target = new URL("../src/admin_api/static/", here);
const pages = ["index.html", "docs.html"];

await rm(target, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: fileURLToPath(here),
  entryPoints: ["src/main.ts", "src/style.css", "src/icon.svg", "src/docs/docs.ts", "src/docs/docs.css"],
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
await mkdir(target, { recursive: true });
for (const name of pages) {
  const page = await readFile(new URL(name, here), "utf8");
  const linked = page.replace(/(href|src)="(src\/[^"]+)"/g, (_, attribute, source) => {
    const asset = built.get(source);
    if (asset === undefined) throw new Error(`${name}: expected one of ${[...built.keys()].join(", ")}, got ${source}`);
    return `${attribute}="${asset}"`;
  });
  await writeFile(new URL(name, target), linked);
}
const licences = {
  // Swagger UI's own comments name this file.
  "swagger-ui-es-bundle.js.LICENSE.txt": "swagger-ui-dist/swagger-ui-es-bundle.js.LICENSE.txt",
  "openapi-fetch.LICENSE.txt": "openapi-fetch/LICENSE",
};
for (const [name, source] of Object.entries(licences)) {
  await copyFile(new URL(`node_modules/${source}`, here), new URL(`assets/${name}`, target));
}
console.log(`dashboard built: ${Object.keys({ ...metafile.outputs, ...licences }).length + pages.length} files`);
