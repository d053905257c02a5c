// Parses a GGUF file with @huggingface/gguf, a reader that shares nothing with ours, and prints what it saw as JSON:
// version, the number of keys with some of their values, and every tensor with its type id, shape and offset.
//
//     node parse_gguf.mjs NODE_MODULES FILE
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [modules, file] = process.argv.slice(2);
const require = createRequire(path.join(modules, "anchor.js"));
const { gguf } = await import(pathToFileURL(require.resolve("@huggingface/gguf")).href);
const { metadata, tensorInfos, tensorDataOffset } = await gguf(file, { allowLocalFile: true });

const plain = (value) => (typeof value === "bigint" ? Number(value) : value);
const keys = Object.entries(metadata).filter(([key]) => !["version", "tensor_count", "kv_count"].includes(key));
console.log(JSON.stringify({
  version: metadata.version,
  key_names: keys.map(([key]) => key),
  scalars: Object.fromEntries(keys.filter(([, value]) => !Array.isArray(value)).map(([key, value]) => [key, plain(value)])),
  lengths: Object.fromEntries(keys.filter(([, value]) => Array.isArray(value)).map(([key, value]) => [key, value.length])),
  data_offset: plain(tensorDataOffset),
  tensors: tensorInfos.map((t) => ({ name: t.name, type: t.dtype, shape: t.shape.map(plain), offset: plain(t.offset) })),
}));
