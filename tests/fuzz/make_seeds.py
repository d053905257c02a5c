#!/usr/bin/env python3
"""Writes the ordinary seeds of the open and directory harnesses: the smallest checkpoint of each kind, field by field.

Run it in this folder after a change. Inputs that once found a bug lie beside them under names of their own and are never
rewritten.
"""

import ctypes
import ctypes.util
import json
import pathlib
import struct

SEEDS = pathlib.Path(__file__).parent / "seeds"


def safetensors(*tensors):
    """Tensors are (name, dtype, shape, bytes)."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, dtype, shape, values in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(tensors, version=3):
    """Tensors are (name, ggml type, dims, bytes); keys of a string, an unsigned and an array of strings come first."""
    keys = (text("general.architecture") + struct.pack("<I", 8) + text("tiny")
            + text("general.alignment") + struct.pack("<II", 4, 32)
            + text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
    infos, data = b"", b""
    for name, kind, dims, values in tensors:
        infos += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", kind, len(data))
        data += values + b"\0" * (-len(values) % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), 3) + keys + infos
    return head + b"\0" * (-len(head) % 32) + data


def pattern(count):
    return bytes((i * 37 + 11) % 251 for i in range(count))


def gptq(bits, group, rows=64, columns=64):
    """One module of GPTQ v1 in the layout of qweight [K * bits / 32, N], qzeros [G, N * bits / 32], scales [G, N]."""
    groups = columns // group
    name = "model.layers.0.mlp.up_proj."
    return safetensors(
        (name + "qweight", "I32", [columns * bits // 32, rows], pattern(columns * bits // 8 * rows)),
        (name + "qzeros", "I32", [groups, rows * bits // 32], pattern(groups * rows * bits // 8)),
        (name + "scales", "F16", [groups, rows], b"\0\x3c" * (groups * rows)),
        (name + "g_idx", "I32", [columns], struct.pack(f"<{columns}i", *(i // group for i in range(columns)))))


def mlx(bits, group, rows=8, columns=64):
    name = "model.layers.0.mlp.up_proj."
    return safetensors(
        (name + "weight", "U32", [rows, columns * bits // 32], pattern(rows * columns * bits // 8)),
        (name + "scales", "BF16", [rows, columns // group], b"\x80\x3f" * (rows * columns // group)),
        (name + "biases", "BF16", [rows, columns // group], b"\x80\xbf" * (rows * columns // group)))


class Xxh128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3_128(data):
    function = ctypes.CDLL(ctypes.util.find_library("xxhash")).XXH3_128bits
    function.restype, function.argtypes = Xxh128, [ctypes.c_char_p, ctypes.c_size_t]
    return function(data, len(data))


def zstd(data):
    library = ctypes.CDLL(ctypes.util.find_library("zstd"))
    library.ZSTD_compress.restype = ctypes.c_size_t
    library.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    out = ctypes.create_string_buffer(len(data) + 1024)
    size = library.ZSTD_compress(out, len(out), data, len(data), 3)
    return out.raw[:size]


def container(skeleton, name, dtype, shape, values, compressed):
    """One safetensors file of one array, and a sidecar, after formats/container/README.md."""
    def hexadecimal(digest):
        return f"{digest.high:016x}{digest.low:016x}"

    files = [json.dumps({"name": "model.safetensors", "bytes": len(skeleton) + len(values)})]
    sidecars = [json.dumps({"name": "config.json", "bytes": 2})]
    arrays = [json.dumps({"name": name, "element": dtype, "shape": shape, "file": 0, "offset": len(skeleton),
                          "bytes": len(values)})]
    tensors = [json.dumps({"name": name, "encoding": dtype, "shape": shape, "arrays": [0]})]
    parts = {"f0.skeleton": skeleton, "s0": b"{}", "f0.a0": values}
    digests = [xxh3_128(part) for part in parts.values()]
    covered = b"".join(struct.pack("<Q", len(texts)) + b"".join(map(text, texts))
                       for texts in (["safetensors"], [""], files, sidecars, arrays, tensors))
    covered += struct.pack("<Q", len(digests)) + b"".join(struct.pack("<QQ", d.low, d.high) for d in digests)

    def strings(values):
        return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))

    def string(value):
        return struct.pack("<I", 8) + text(value)

    keys = {"version": struct.pack("<II", 4, 1), "format": string("safetensors"), "entry": string(""),
            "files": strings(files), "sidecars": strings(sidecars), "arrays": strings(arrays),
            "tensors": strings(tensors), "codec": string("zstd" if compressed else "none")}
    stored = parts
    if compressed:
        chunk = 1024
        chunks = [(key, part[i:i + chunk]) for key, part in parts.items() for i in range(0, len(part), chunk)]
        frames = [zstd(raw) for _, raw in chunks]
        shrunk = [len(frame) < len(raw) for frame, (_, raw) in zip(frames, chunks)]
        kept = [frame if small else raw for frame, small, (_, raw) in zip(frames, shrunk, chunks)]
        stored = {key: b"".join(data for data, (owner, _) in zip(kept, chunks) if owner == key) for key in parts}
        keys["chunk_bytes"] = struct.pack("<II", 4, chunk)
        keys["chunk_stored"] = struct.pack(f"<IIQ{len(kept)}I", 9, 4, len(kept), *map(len, kept))
        keys["chunk_coding"] = struct.pack(f"<IIQ{len(kept)}B", 9, 0, len(kept), *shrunk)
        keys["chunk_digests"] = strings([hexadecimal(xxh3_128(raw)) for _, raw in chunks])
    keys["digests"] = strings([hexadecimal(digest) for digest in digests])
    keys["root"] = string(hexadecimal(xxh3_128(covered)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(stored), len(keys))
    head += b"".join(text("regauge.container." + key) + value for key, value in keys.items())
    data = b""
    for key, part in stored.items():
        head += text(key) + struct.pack("<IQIQ", 1, len(part), 24, len(data))
        data += part + b"\0" * (-len(part) % 32)
    return head + b"\0" * (-len(head) % 32) + data


def write(folder, name, data):
    (SEEDS / folder).mkdir(parents=True, exist_ok=True)
    (SEEDS / folder / name).write_bytes(data)


def main():
    dense = [("w", "F32", [2, 3], pattern(24)), ("b", "BF16", [4], pattern(8)), ("flag", "BOOL", [3], b"\0\1\1"),
             ("f8", "F8_E4M3", [2, 2], pattern(4)), ("none", "I64", [0, 5], b"")]
    write("open", "dense.safetensors", safetensors(*dense))
    write("open", "dense.gguf", gguf([("w", 0, [3, 2], pattern(24)), ("h", 1, [4], pattern(8))]))
    write("open", "blocks.gguf", gguf([("q4", 2, [32, 2], pattern(36)), ("k", 12, [256, 1], pattern(144)),
                                       ("iq", 16, [256, 1], pattern(66)), ("fp4", 39, [32, 1], pattern(17))]))
    write("open", "version2.gguf", gguf([("w", 0, [3, 2], pattern(24))], version=2))
    write("open", "empty.gguf", gguf([]))
    zeros = safetensors(("z", "F32", [600], bytes(2400)))
    for name, compressed in (("container", False), ("container_zstd", True)):
        write("open", name + ".rg.gguf", container(zeros[:-2400], "z", "F32", [600], bytes(2400), compressed))

    def directory(config, model):
        return json.dumps(config, separators=(",", ":")).encode() + b"\0" + model

    write("directory", "dense", directory({"model_type": "qwen3_5"}, safetensors(*dense)))
    for bits, version in ((4, "gptq"), (8, "gptq_v2"), (3, "gptq")):
        config = {"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 32, "sym": True,
                                          "desc_act": False, "checkpoint_format": version, "dynamic": {"-:.*skip.*": {}}}}
        write("directory", f"gptq{bits}", directory(config, gptq(bits, 32)))
    for bits in (4, 6):
        config = {"quantization": {"group_size": 32, "bits": bits, "mode": "affine"}}
        write("directory", f"mlx{bits}", directory(config, mlx(bits, 32)))


if __name__ == "__main__":
    main()
