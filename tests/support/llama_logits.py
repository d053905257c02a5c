#!/usr/bin/env python3
"""Runs a GGUF file in real llama.cpp and says how far its logits are from expected ones.

The libraries are those of the npm package @node-llama-cpp/linux-x64 3.22.1 (llama.cpp v0.5.0, CPU). Their folder is
found below --node-modules, else $REGAUGE_NODE_MODULES, else build/oracle/node_modules of this checkout. Everything else
is the Python standard library.

    llama_logits.py logits MODEL.gguf --expected FILE [--max-diff 0.3] [--mtp | --draft MTP.gguf] [--adapter LORA.gguf]
    llama_logits.py tokenize MODEL.gguf -- TEXT
    llama_logits.py info MODEL.gguf
    llama_logits.py quantize IN.gguf OUT.gguf Q4_0

One JSON document on stdout. Exit status: 0 fine; 1 the logits are farther away than --max-diff, or one of them is not
finite; 2 the loader refused the file (its log is on stderr) or the libraries are missing; 3 it loaded and did not run.
A signal means that llama.cpp gave up on an assertion.
"""

import argparse
import array
import ctypes
import glob
import json
import math
import os
import struct
import sys

VERSION = "0.5.0"
HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARIES = "@node-llama-cpp/linux-x64/bins/linux-x64"

# Parameter structs travel by value as opaque bytes: (size, {field: (offset, struct format)}). They start as the
# library's own defaults, so only the fields that are set or checked need a name. x86-64, llama.cpp v0.5.0.
MODEL_PARAMS = (80, {
    "n_gpu_layers": (16, "i"), "load_mode": (24, "i"), "vocab_only": (72, "?"), "check_tensors": (73, "?"),
    "use_extra_bufts": (74, "?"), "load_mtp": (77, "?"),
})
CONTEXT_PARAMS = (160, {
    "n_ctx": (0, "I"), "n_batch": (4, "I"), "n_ubatch": (8, "I"), "n_threads": (28, "i"), "n_threads_batch": (32, "i"),
    "ctx_type": (36, "i"), "flash_attn_type": (52, "i"), "type_k": (104, "i"), "type_v": (108, "i"), "no_perf": (130, "?"),
    "ctx_other": (152, "Q"),
})
QUANTIZE_PARAMS = (64, {
    "nthread": (0, "i"), "ftype": (4, "i"), "output_tensor_type": (8, "i"), "token_embedding_type": (12, "i"),
    "allow_requantize": (16, "?"), "pure": (19, "?"),
})
# What the defaults must be if the layouts above are right: a cheap guard against another release.
KNOWN_DEFAULTS = (("llama_context_default_params", {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "type_k": 1, "type_v": 1}),
                  ("llama_model_default_params", {"use_extra_bufts": True, "vocab_only": False}),
                  ("llama_model_quantize_default_params", {"output_tensor_type": 43, "token_embedding_type": 43}))
TYPE_F32 = 0
CONTEXT_OF_MTP = 1
# llama_ftype by name, as llama.h numbers them.
FTYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
    "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4_MOE": 38,
}


class Failure(Exception):
    """Ends the program with `status`; the text goes to stderr."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def opaque(layout):
    """A ctypes struct of the size that `layout` names, with get and set by field name."""
    size, fields = layout

    class Params(ctypes.Structure):
        _fields_ = [("words", ctypes.c_uint64 * (size // 8))]

        def get(self, name):
            offset, code = fields[name]
            return struct.unpack_from(code, self, offset)[0]

        def set(self, **values):
            for name, value in values.items():
                offset, code = fields[name]
                struct.pack_into(code, self, offset, value)
            return self

    return Params


ModelParams, ContextParams, QuantizeParams = opaque(MODEL_PARAMS), opaque(CONTEXT_PARAMS), opaque(QUANTIZE_PARAMS)


class Batch(ctypes.Structure):
    """llama_batch. `hold` keeps the arrays alive for as long as the batch."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.c_void_p), ("embd", ctypes.c_void_p),
                ("pos", ctypes.c_void_p), ("n_seq_id", ctypes.c_void_p), ("seq_id", ctypes.c_void_p),
                ("logits", ctypes.c_void_p)]

    def __init__(self, tokens, first_position=0, hidden_states=None):
        super().__init__()
        count = len(tokens)
        sequence = (ctypes.c_int32 * 1)(0)
        arrays = {
            "token": (ctypes.c_int32 * count)(*tokens),
            "pos": (ctypes.c_int32 * count)(*range(first_position, first_position + count)),
            "n_seq_id": (ctypes.c_int32 * count)(*[1] * count),
            "seq_id": (ctypes.c_void_p * count)(*[ctypes.addressof(sequence)] * count),
            "logits": (ctypes.c_int8 * count)(*[1] * count),
        }
        if hidden_states is not None:
            arrays["embd"] = (ctypes.c_float * len(hidden_states)).from_buffer(hidden_states)
        self.n_tokens = count
        for name, values in arrays.items():
            setattr(self, name, ctypes.addressof(values))
        self.hold = (arrays, sequence)


class Llama:
    """The libraries, with the CPU backend registered and the log captured."""

    def __init__(self, node_modules):
        folder = os.path.join(node_modules, LIBRARIES)
        try:
            self.ggml, self.llama = (ctypes.CDLL(self.only(folder, name), mode=ctypes.RTLD_GLOBAL)
                                     for name in ("libggml.v*.so", "libllama.v*.so"))
        except OSError as error:
            raise Failure(2, f"llama.cpp's libraries cannot be opened: {error}")
        pointer, number, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
        for name, result, *arguments in (
                ("llama_version", text), ("llama_model_default_params", ModelParams),
                ("llama_context_default_params", ContextParams), ("llama_model_quantize_default_params", QuantizeParams),
                ("llama_backend_init", None), ("llama_model_load_from_file", pointer, text, ModelParams),
                ("llama_init_from_model", pointer, pointer, ContextParams), ("llama_model_get_vocab", pointer, pointer),
                ("llama_vocab_n_tokens", number, pointer), ("llama_model_n_embd", number, pointer),
                ("llama_model_n_layer", number, pointer), ("llama_model_n_layer_nextn", number, pointer),
                ("llama_model_n_params", ctypes.c_uint64, pointer), ("llama_model_size", ctypes.c_uint64, pointer),
                ("llama_model_desc", number, pointer, text, ctypes.c_size_t),
                ("llama_model_is_hybrid", ctypes.c_bool, pointer), ("llama_decode", number, pointer, Batch),
                ("llama_get_logits_ith", pointer, pointer, number),
                ("llama_adapter_lora_init", pointer, pointer, text),
                ("llama_set_adapters_lora", number, pointer, pointer, ctypes.c_size_t, pointer),
                ("llama_model_quantize", ctypes.c_uint32, text, text, ctypes.POINTER(QuantizeParams)),
                ("llama_tokenize", number, pointer, text, number, pointer, number, ctypes.c_bool, ctypes.c_bool)):
            function = getattr(self.llama, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("llama_"), function)

        self.log = []
        self.log_callback = ctypes.CFUNCTYPE(None, ctypes.c_int, text, pointer)(
            lambda _level, line, _user: self.log.append(line.decode("utf-8", "replace")))
        self.llama.llama_log_set(self.log_callback, None)
        version = self.version().decode()
        if not version.startswith(VERSION):
            raise Failure(2, f"llama.cpp is {version}, but its structs are known for {VERSION} only")
        for function, defaults in KNOWN_DEFAULTS:
            params = getattr(self.llama, function)()
            for name, value in defaults.items():
                if params.get(name) != value:
                    raise Failure(2, f"{function}: {name} is {params.get(name)} and not {value}: another struct layout")
        self.ggml.ggml_backend_load_all_from_path(os.fsencode(folder))
        self.backend_init()

    @staticmethod
    def only(folder, pattern):
        found = glob.glob(os.path.join(folder, pattern))
        if len(found) != 1:
            raise Failure(2, f"no {pattern} in {folder}: run ./dev oracle, or name the folder by --node-modules")
        return found[0]

    def last_log(self):
        return "".join(self.log[-12:])

    def load(self, path, vocab_only=False):
        """Weights stay as they lie in the file: no repacking for the CPU, so that a difference is the file's. The MTP
        block is loaded where there is one, so that its tensors are checked too."""
        params = self.model_default_params().set(n_gpu_layers=0, load_mode=0, check_tensors=not vocab_only,
                                                 use_extra_bufts=False, vocab_only=vocab_only, load_mtp=True)
        self.log.clear()
        model = self.model_load_from_file(os.fsencode(path), params)
        if not model:
            raise Failure(2, f"{path}: refused by llama.cpp\n{self.last_log()}")
        return model

    def vocabulary_size(self, model):
        return self.vocab_n_tokens(self.model_get_vocab(model))

    def context(self, model, positions, **more):
        # One thread, an f32 cache and no flash attention: as little rounding as possible between weights and logits.
        params = self.context_default_params().set(
            n_ctx=max(64, -(-positions // 64) * 64), n_batch=max(32, positions), n_ubatch=max(32, positions), n_threads=1,
            n_threads_batch=1, flash_attn_type=0, type_k=TYPE_F32, type_v=TYPE_F32, no_perf=True, **more)
        context = self.init_from_model(model, params)
        if not context:
            raise Failure(3, f"no context for this model\n{self.last_log()}")
        return context

    def attach_adapter(self, model, context, path):
        adapter = self.adapter_lora_init(model, os.fsencode(path))
        if not adapter:
            raise Failure(2, f"{path}: refused by llama.cpp\n{self.last_log()}")
        if self.set_adapters_lora(context, (ctypes.c_void_p * 1)(adapter), 1, (ctypes.c_float * 1)(1.0)) != 0:
            raise Failure(3, f"{path}: cannot be attached\n{self.last_log()}")

    def evaluate(self, context, batch, vocabulary_size):
        """Logits of every position of the batch, as one array('f') a position."""
        status = self.decode(context, batch)
        if status != 0:
            raise Failure(3, f"llama_decode returned {status}\n{self.last_log()}")
        return self.floats(lambda i: self.get_logits_ith(context, i), batch.n_tokens, vocabulary_size, "logits")

    @staticmethod
    def floats(address_of, count, width, what):
        rows = []
        for i in range(count):
            address = address_of(i)
            if not address:
                raise Failure(3, f"no {what} at position {i}")
            rows.append(array.array("f", ctypes.string_at(address, 4 * width)))
        return rows

    def logits(self, model, tokens, adapter=None, draft=None):
        """(main, mtp or None). `draft` is the model whose MTP block is run, `model` itself or one that has little else. Row t
        of the second follows from hidden state t and token t + 1, and speaks of token t + 2."""
        size = self.vocabulary_size(model)
        context = self.context(model, len(tokens))
        if adapter:
            self.attach_adapter(model, context, adapter)
        if draft is None:
            return self.evaluate(context, Batch(tokens), size), None
        # No stable C interface for these two yet: they are exported under their C++ names only.
        keep_hidden_states = self.llama._Z26llama_set_embeddings_nextnP13llama_contextbb
        keep_hidden_states.restype, keep_hidden_states.argtypes = None, [ctypes.c_void_p, ctypes.c_bool, ctypes.c_bool]
        hidden_state = self.llama._Z30llama_get_embeddings_nextn_ithP13llama_contexti
        hidden_state.restype, hidden_state.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int32]
        keep_hidden_states(context, True, True)
        main = self.evaluate(context, Batch(tokens), size)
        states = self.floats(lambda i: hidden_state(context, i), len(tokens), self.model_n_embd(model), "hidden state")
        inputs = array.array("f")
        for state in states[:-1]:
            inputs.extend(state)
        second = self.context(draft, len(tokens), ctx_type=CONTEXT_OF_MTP, ctx_other=context)
        return main, self.evaluate(second, Batch(tokens[1:], 1, inputs), size)


class Expected:
    """Named numbers from a safetensors file (F32 and I32) or from a JSON object of nested lists."""

    def __init__(self, path):
        self.path = path
        if path.endswith(".json"):
            with open(path, encoding="utf-8") as file:
                self.values = json.load(file)
            return
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            start = file.tell()
            self.values = {}
            for name, entry in header.items():
                code = {"F32": "f", "I32": "i"}.get(entry.get("dtype"))
                if code is None or len(entry["shape"]) > 2:
                    continue
                begin, end = entry["data_offsets"]
                file.seek(start + begin)
                flat = array.array(code, file.read(end - begin))
                width = entry["shape"][-1]
                self.values[name] = (flat.tolist() if len(entry["shape"]) == 1 else
                                     [flat[i:i + width] for i in range(0, len(flat), width)])

    def __getitem__(self, name):
        if name not in self.values:
            raise Failure(2, f"{self.path}: no tensor {name} of F32 or I32")
        return self.values[name]


def argmax(row):
    return max(range(len(row)), key=row.__getitem__)


def compare(rows, expected):
    """Figures of `rows`, beside `expected` where that is given."""
    result = {"positions": len(rows), "vocabulary": len(rows[0]), "argmax": [argmax(row) for row in rows],
              "non_finite": sum(not math.isfinite(value) for row in rows for value in row)}
    if expected is not None:
        if [len(row) for row in rows] != [len(row) for row in expected]:
            raise Failure(1, f"expected {len(expected)} x {len(expected[0])} logits, got {len(rows)} x {len(rows[0])}")
        differences = [abs(a - b) for row, other in zip(rows, expected) for a, b in zip(row, other)]
        # max() loses a NaN when it is not first, so a NaN has to be put there by hand.
        result["max_abs_diff"] = math.inf if any(map(math.isnan, differences)) else max(differences)
        result["argmax_agrees"] = sum(a == argmax(row) for a, row in zip(result["argmax"], expected))
    return result


def run_logits(llama, options):
    expected = Expected(options.expected) if options.expected else None
    if options.tokens is None and expected is None:
        raise Failure(2, "tokens come from --tokens or from the tensor `prompt` of --expected")
    tokens = [int(token) for token in options.tokens.split(",")] if options.tokens else list(expected["prompt"])
    model = llama.load(options.model)
    draft = llama.load(options.draft) if options.draft else model if options.mtp else None
    main, mtp = llama.logits(model, tokens, options.adapter, draft)
    if options.save:
        found = {"prompt": tokens, options.tensor: [row.tolist() for row in main]}
        if mtp is not None:
            found["mtp_" + options.tensor] = [row.tolist() for row in mtp]
        with open(options.save, "w", encoding="utf-8") as file:
            json.dump(found, file)
    result = {"model": options.model, **compare(main, expected[options.tensor] if expected else None)}
    parts = [result]
    if mtp is not None:
        result["mtp"] = compare(mtp, expected["mtp_" + options.tensor] if expected else None)
        parts.append(result["mtp"])
    good = all(part["non_finite"] == 0 for part in parts)
    if options.max_diff is not None:
        result["max_diff"] = options.max_diff
        good = good and all(part.get("max_abs_diff", math.inf) <= options.max_diff for part in parts)
    return result, 0 if good else 1


def run_info(llama, options):
    model = llama.load(options.model)
    description = ctypes.create_string_buffer(256)
    llama.model_desc(model, description, 256)
    return {"model": options.model, "description": description.value.decode(), "vocabulary": llama.vocabulary_size(model),
            "hidden": llama.model_n_embd(model), "layers": llama.model_n_layer(model),
            "mtp_layers": llama.model_n_layer_nextn(model), "parameters": llama.model_n_params(model),
            "bytes": llama.model_size(model), "hybrid": llama.model_is_hybrid(model)}, 0


def run_tokenize(llama, options):
    vocabulary = llama.model_get_vocab(llama.load(options.model, vocab_only=True))
    result = []
    for text in options.text:
        encoded = text.encode()
        ids = (ctypes.c_int32 * (len(encoded) + 16))()
        count = llama.tokenize(vocabulary, encoded, len(encoded), ids, len(ids), False, not options.no_special)
        if count < 0:
            raise Failure(3, f"llama_tokenize returned {count}")
        result.append({"text": text, "ids": ids[:count]})
    return {"model": options.model, "texts": result}, 0


def run_quantize(llama, options):
    params = llama.model_quantize_default_params().set(ftype=FTYPES[options.ftype], nthread=1, pure=options.pure)
    llama.log.clear()
    status = llama.model_quantize(os.fsencode(options.source), os.fsencode(options.target), ctypes.byref(params))
    if status != 0:
        raise Failure(2, f"llama_model_quantize returned {status}\n{llama.last_log()}")
    return {"model": options.target, "bytes": os.path.getsize(options.target)}, 0


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node-modules", default=os.environ.get("REGAUGE_NODE_MODULES") or
                        os.path.normpath(os.path.join(HERE, "../../build/oracle/node_modules")))
    commands = parser.add_subparsers(dest="command", required=True)

    logits = commands.add_parser("logits")
    logits.add_argument("model")
    logits.add_argument("--tokens", help="comma-separated ids; without it the tensor `prompt` of --expected")
    logits.add_argument("--expected", help="safetensors or JSON with `prompt` and the logits")
    logits.add_argument("--tensor", default="logits", help="which tensor of --expected; --mtp takes mtp_<it> as well")
    logits.add_argument("--max-diff", type=float)
    logits.add_argument("--adapter", help="a LoRA adapter to attach at scale 1")
    logits.add_argument("--mtp", action="store_true", help="run the MTP block too")
    logits.add_argument("--draft", help="run the MTP block of this file, which need not hold the model's own blocks")
    logits.add_argument("--save", help="write prompt and logits here, as --expected takes them")
    logits.set_defaults(run=run_logits)

    tokenize = commands.add_parser("tokenize")
    tokenize.add_argument("model")
    tokenize.add_argument("--no-special", action="store_true", help="take control tokens in the text as plain text")
    tokenize.add_argument("text", nargs="+")
    tokenize.set_defaults(run=run_tokenize)

    info = commands.add_parser("info")
    info.add_argument("model")
    info.set_defaults(run=run_info)

    quantize = commands.add_parser("quantize")
    quantize.add_argument("source")
    quantize.add_argument("target")
    quantize.add_argument("ftype", choices=FTYPES)
    quantize.add_argument("--pure", action="store_true")
    quantize.set_defaults(run=run_quantize)
    return parser.parse_args()


def main():
    options = parse_options()
    # A failed assertion inside the libraries ends this process; one line about it is enough.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    try:
        result, status = options.run(Llama(options.node_modules), options)
    except Failure as failure:
        print(f"llama_logits.py: {failure}", file=sys.stderr)
        return failure.status
    print(json.dumps(result))
    return status


if __name__ == "__main__":
    sys.exit(main())
