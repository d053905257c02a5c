#!/usr/bin/env python3
"""Errors of a GPTQ directory against the dense one that it was made from, with numpy: one line a quantized matrix.

    /usr/bin/python3 tests/golden/error_metrics.py CANDIDATE REFERENCE

prints name, different elements, max |d|, its index, rmse, relative error, snr in dB, cosine.
"""
import os
import sys

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import value_digests  # noqa: E402


def main():
    arrays = value_digests.read_directory(sys.argv[1])
    reference = value_digests.read_directory(sys.argv[2])
    for name in sorted(arrays):
        if not name.endswith(".qweight"):
            continue
        module = name[:-len(".qweight")]
        a = numpy.array(value_digests.dequantize(arrays, module, 4), dtype=numpy.float64).ravel()
        b = numpy.array(value_digests.numbers(reference[module + ".weight"]), dtype=numpy.float64)
        d = a - b
        print(module + ".weight", numpy.count_nonzero(d), repr(float(numpy.max(numpy.abs(d)))),
              int(numpy.argmax(numpy.abs(d))), repr(float(numpy.sqrt(numpy.mean(d * d)))),
              repr(float(numpy.linalg.norm(d) / numpy.linalg.norm(b))),
              repr(float(10 * numpy.log10(numpy.sum(b * b) / numpy.sum(d * d)))),
              repr(float(numpy.dot(a, b) / (numpy.linalg.norm(a) * numpy.linalg.norm(b)))))


if __name__ == "__main__":
    main()
