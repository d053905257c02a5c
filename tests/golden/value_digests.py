#!/usr/bin/env python3
"""Value digests of a Hugging Face or GPTQ directory of Qwen3.5, by docs/verifying.md and python3-xxhash.

Shares nothing with the program under test: safetensors, GPTQ v1 (2, 4 and 8 bits) and the effective form are written down
here once more, slowly. Recorded outputs lie in tests/golden/data/value_digests:

    /usr/bin/python3 tests/golden/value_digests.py samples/qwen35-bf16-tiny

With --vectors it prints the row and tensor vectors of docs/verifying.md instead.
"""
import glob
import json
import math
import re
import struct
import sys

import xxhash

FORMATS = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "U64": "Q", "I32": "i", "U32": "I"}
SHIFTED = re.compile(r"((input|post_attention)_layernorm|[qk]_norm|pre_fc_norm_\w+|^model\.language_model\.norm|"
                     r"^mtp\.norm)\.weight$")


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def read_directory(path):
    arrays = {}
    for file in sorted(glob.glob(path + "/*.safetensors*")):
        if file.endswith(".json"):
            continue
        with open(file, "rb") as stream:
            data = stream.read()
        length = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8:8 + length])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            arrays[name] = (entry["dtype"], entry["shape"], data[8 + length + begin:8 + length + end])
    return arrays


def numbers(array):
    dtype, _, data = array
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]
    return list(struct.unpack("<%d%s" % (len(data) // struct.calcsize(FORMATS[dtype]), FORMATS[dtype]), data))


def dequantize(arrays, module, bits):
    """[outputs][inputs]; zero points are stored minus one on the whole word, modulo 2^32."""
    _, shape, qweight = arrays[module + ".qweight"]
    per_word, outputs = 32 // bits, shape[1]
    inputs, mask = shape[0] * per_word, (1 << bits) - 1
    ones = sum(1 << (bits * i) for i in range(per_word))
    words = struct.unpack("<%dI" % (len(qweight) // 4), qweight)
    zeros = [(w + ones) & 0xFFFFFFFF for w in struct.unpack("<%dI" % (len(arrays[module + ".qzeros"][2]) // 4),
                                                            arrays[module + ".qzeros"][2])]
    scales = numbers(arrays[module + ".scales"])
    index = numbers(arrays[module + ".g_idx"])
    zero_words = outputs // per_word
    rows = []
    for n in range(outputs):
        row = []
        for k in range(inputs):
            group = index[k]
            code = words[(k // per_word) * outputs + n] >> (bits * (k % per_word)) & mask
            zero = zeros[group * zero_words + n // per_word] >> (bits * (n % per_word)) & mask
            row.append(f32(scales[group * outputs + n] * (code - zero)))
        rows.append(row)
    return rows


def leaves(path):
    """Canonical name, shape, rows."""
    arrays = read_directory(path)
    bits = 4
    try:
        with open(path + "/quantize_config.json", encoding="utf-8") as stream:
            bits = json.load(stream)["bits"]
    except FileNotFoundError:
        pass
    for name, array in arrays.items():
        module, _, kind = name.rpartition(".")
        if kind in ("qzeros", "scales", "g_idx"):
            continue
        if kind == "qweight":
            rows = dequantize(arrays, module, bits)
            yield module + ".weight", [len(rows), len(rows[0])], rows
            continue
        values, shape = numbers(array), array[1]
        if name.endswith(".conv1d.weight"):
            shape = [shape[0], shape[2]]
        if SHIFTED.search(name):
            values = [f32(1.0 + v) for v in values]
        if name.endswith(".A_log"):
            values = [f32(-math.exp(v)) for v in values]
        if name.endswith("patch_embed.proj.weight"):
            count, channels, frames, size = shape[0], shape[1], shape[2], shape[3] * shape[4]
            for frame in range(frames):
                rows = [[values[((v * channels + c) * frames + frame) * size + i] for c in range(channels)
                         for i in range(size)] for v in range(count)]
                yield "%s.%d" % (name, frame), [count, channels * size], rows
            continue
        columns = shape[-1]
        yield name, shape, [values[i:i + columns] for i in range(0, len(values), columns)]


def number(value):
    return struct.pack("<Q", value)


def text(value):
    return number(len(value.encode())) + value.encode()


def digest(data):
    return xxhash.xxh3_128_intdigest(data)


def little(value):
    return value.to_bytes(16, "little")


def is_f32(value):
    if value != value or value in (math.inf, -math.inf):
        return True
    try:
        return f32(value) == value
    except OverflowError:
        return False


def wide_number(value):
    """The nearest f64 and what remains."""
    high = float(value)
    low = float(value - int(high)) if isinstance(value, int) else 0.0
    nan = struct.pack("<Q", 0x7FF8 << 48)
    return b"".join(nan if half != half else struct.pack("<d", 0.0 if half == 0 else half) for half in (high, low))


def row_digest(row):
    if not all(is_f32(value) for value in row):
        return digest(b"".join(wide_number(value) for value in row))
    data = b""
    for value in row:
        if value != value:
            data += struct.pack("<I", 0x7FC00000)
        else:
            data += struct.pack("<f", 0.0 if value == 0 else value)
    return digest(data)


def leaf_digest(name, shape, rows):
    data = text(name) + number(len(shape)) + b"".join(number(d) for d in shape)
    return digest(data + b"".join(little(row_digest(row)) for row in rows))


def root_of(name):
    return "mtp" if name.startswith("mtp.") else "vision" if name.startswith("model.visual.") else "text"


def model_digests(tensors):
    roots = {}
    for root in ("text", "mtp", "vision", "adapter"):
        own = [little(tensors[name]) for name in sorted(tensors) if root_of(name) == root]
        if own:
            roots[root] = digest(text(root) + number(len(own)) + b"".join(own))
    return roots, digest(text("model") + number(len(roots)) + b"".join(little(d) for d in roots.values()))


def vectors():
    nan = float("nan")
    print("row [0, -0, 1.5, nan]", "%032x" % row_digest([0.0, -0.0, 1.5, nan]))
    print("row of no values", "%032x" % row_digest([]))
    print("row [0.1, -0, nan] of f64", "%032x" % row_digest([0.1, -0.0, nan]))
    print("row [2^53 + 1, -1] of i64", "%032x" % row_digest([2**53 + 1, -1]))
    a = leaf_digest("a", [2, 3], [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    b = leaf_digest("mtp.b", [4], [[0.5, 0.25, 0.125, 0.0]])
    print("tensor a [2, 3]", "%032x" % a)
    print("tensor mtp.b [4]", "%032x" % b)
    roots, model = model_digests({"a": a, "mtp.b": b})
    for name, value in roots.items():
        print("root", name, "%032x" % value)
    print("root text of a alone", "%032x" % model_digests({"a": a})[0]["text"])
    print("model", "%032x" % model)


def main():
    if sys.argv[1:] == ["--vectors"]:
        vectors()
        return
    tensors = {name: leaf_digest(name, shape, rows) for name, shape, rows in leaves(sys.argv[1])}
    roots, model = model_digests(tensors)
    for name in sorted(tensors):
        print("%032x  %s" % (tensors[name], name))
    for name, value in roots.items():
        print("%032x  root:%s" % (value, name))
    print("%032x  model" % model)


if __name__ == "__main__":
    main()
