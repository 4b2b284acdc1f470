// Bundles the tests of the pure parts and runs them with node's own test runner.
import { build } from "esbuild";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const tests = fileURLToPath(new URL("tests/", import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "dashboard-tests-"));
const names = (await readdir(tests)).filter((name) => name.endsWith(".test.mjs"));
await build({
  entryPoints: names.map((name) => join(tests, name)),
  outdir: folder,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  logLevel: "warning",
});
const stream = run({ files: names.map((name) => join(folder, name)) });
stream.on("test:fail", () => (process.exitCode = 1));
stream.on("end", () => rm(folder, { recursive: true }));
stream.compose(new spec()).pipe(process.stdout);
