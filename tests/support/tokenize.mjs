// Encodes texts with @huggingface/tokenizers, an encoder that shares nothing with ours, from the tokenizer.json and
// tokenizer_config.json of a directory, and prints the ids of each as JSON. TEXTS is a JSON array of strings.
//
//     node tokenize.mjs NODE_MODULES DIRECTORY TEXTS
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";

const [modules, directory, texts] = process.argv.slice(2);
const require = createRequire(path.join(modules, "anchor.js"));
const { Tokenizer } = require("@huggingface/tokenizers");
const read = (file) => JSON.parse(readFileSync(file, "utf8"));

const tokenizer = new Tokenizer(read(path.join(directory, "tokenizer.json")), read(path.join(directory, "tokenizer_config.json")));
console.log(JSON.stringify(read(texts).map((text) => ({ ids: tokenizer.encode(text).ids }))));
