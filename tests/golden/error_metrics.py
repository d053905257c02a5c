#!/usr/bin/env python3
"""Errors of a GPTQ or MLX directory against the dense one that it was made from, with numpy: one line a quantized matrix.

    /usr/bin/python3 tests/golden/error_metrics.py CANDIDATE REFERENCE

prints name, different elements, max |d|, its index, rmse, relative error, snr in dB, cosine, and the largest and the root
mean square of |d| in quantization steps. Shares nothing with the program under test: safetensors, GPTQ v1 (2, 4 and 8
bits) and MLX's affine modules of any width are read here once more.
"""
import glob
import json
import struct
import sys

import numpy

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I32": "<u4", "U32": "<u4"}


def read_directory(path):
    arrays = {}
    for file in sorted(glob.glob(path + "/*.safetensors*")):
        if file.endswith(".json"):
            continue
        with open(file, "rb") as stream:
            data = stream.read()
        length = struct.unpack_from("<Q", data)[0]
        for name, entry in json.loads(data[8:8 + length]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            raw = data[begin:end]
            if entry["dtype"] == "BF16":
                array = (numpy.frombuffer(raw, "<u2").astype(numpy.uint32) << 16).view(numpy.float32)
            elif entry["dtype"] in NUMPY:
                array = numpy.frombuffer(raw, NUMPY[entry["dtype"]])
            else:
                continue
            arrays[name] = array.reshape(entry["shape"])
    return arrays


def f32(array):
    return array.astype(numpy.float32)


def gptq(arrays, module):
    """Values and steps, [outputs, inputs]; zero points are stored minus one on the whole word, modulo 2^32."""
    words, index = arrays[module + ".qweight"], arrays[module + ".g_idx"].astype(numpy.int64)
    bits = words.shape[0] * 32 // len(index)
    per_word, mask = 32 // bits, (1 << bits) - 1
    shifts = numpy.arange(per_word, dtype=numpy.uint32) * numpy.uint32(bits)
    codes = ((words[:, None, :] >> shifts[None, :, None]) & mask).reshape(len(index), -1)
    ones = sum(1 << (bits * i) for i in range(per_word))
    stored = ((arrays[module + ".qzeros"].astype(numpy.uint64) + ones) & 0xFFFFFFFF).astype(numpy.uint32)
    zeros = ((stored[:, :, None] >> shifts) & mask).reshape(stored.shape[0], -1)
    scales = f32(arrays[module + ".scales"])[index]
    values = scales * f32(codes.astype(numpy.int64) - zeros[index].astype(numpy.int64))
    return values.T, numpy.abs(scales).T


def mlx(arrays, module):
    """Codes are one stream of bits a row, from the lowest bit on; f32(f32(scale * code) + bias)."""
    words, scales = arrays[module + ".weight"], f32(arrays[module + ".scales"])
    rows, group = words.shape[0], 64
    columns = scales.shape[1] * group
    bits = words.shape[1] * 32 // columns
    stream = numpy.unpackbits(words.astype("<u4").view(numpy.uint8).reshape(rows, -1), axis=1, bitorder="little")
    codes = (stream.reshape(rows, columns, bits) << numpy.arange(bits, dtype=numpy.uint32)).sum(axis=2)
    scales = numpy.repeat(scales, group, axis=1)
    biases = numpy.repeat(f32(arrays[module + ".biases"]), group, axis=1)
    return f32(scales * f32(codes)) + biases, numpy.abs(scales)


def hugging_face_name(name):
    """mlx-lm has the text model inside "language_model"."""
    for theirs, ours in (("language_model.model.", "model.language_model."), ("language_model.lm_head", "lm_head")):
        if name.startswith(theirs):
            return ours + name[len(theirs):]
    return name


def main():
    arrays = read_directory(sys.argv[1])
    reference = read_directory(sys.argv[2])
    for name in sorted(arrays):
        if name.endswith(".qweight"):
            module, decoded = name[:-len(".qweight")], gptq
        elif name.endswith(".biases"):
            module, decoded = name[:-len(".biases")], mlx
        else:
            continue
        values, steps = decoded(arrays, module)
        weight = hugging_face_name(module) + ".weight"
        a = values.astype(numpy.float64).ravel()
        b = reference[weight].astype(numpy.float64).ravel()
        d = a - b
        in_steps = (numpy.abs(d) / steps.astype(numpy.float64).ravel())[steps.ravel() > 0]
        print(weight, numpy.count_nonzero(d), repr(float(numpy.max(numpy.abs(d)))), int(numpy.argmax(numpy.abs(d))),
              repr(float(numpy.sqrt(numpy.mean(d * d)))), repr(float(numpy.linalg.norm(d) / numpy.linalg.norm(b))),
              repr(float(10 * numpy.log10(numpy.sum(b * b) / numpy.sum(d * d)))),
              repr(float(numpy.dot(a, b) / (numpy.linalg.norm(a) * numpy.linalg.norm(b)))),
              repr(float(numpy.max(in_steps))), repr(float(numpy.sqrt(numpy.mean(in_steps * in_steps)))))


if __name__ == "__main__":
    main()
