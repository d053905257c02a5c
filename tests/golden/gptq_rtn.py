#!/usr/bin/env python3
"""Makes tests/golden/data/gptq/rtn.safetensors with the quantizer of a GPTQModel checkout.

    gptq_rtn.py CHECKOUT OUT.safetensors

The code that decides is GPTQModel's own gptqmodel/quantization/quantizer.py, executed unchanged: class Quantizer,
find_params() and quantize(), as RTN.quantize() calls them group by group. torch is not needed: what little of it that
file uses is below, each operation on doubles and rounded to f32 once, which is what IEEE 754 f32 arithmetic gives for
+ - * / (a double has more than twice the digits). Codes are taken out of the fake-quantized weights by the expression
that the packer has (nn_modules/qlinear/__init__.py, pack_block): with the weights kept in f32, and, where that gives other
codes, rounded to bf16, as a bf16 module holds them in between.
"""

import json
import math
import random
import struct
import sys
import types
from pathlib import Path

ROWS, COLUMNS = 16, 256


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bf16(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16))[0]


class Tensor:
    """A vector, or a matrix as a list of rows, of f32."""

    device = None

    def __init__(self, values):
        self.values = values

    @property
    def shape(self):
        nested = self.values and isinstance(self.values[0], list)
        return (len(self.values), len(self.values[0])) if nested else (len(self.values),)

    def rows(self):
        return self.values if len(self.shape) == 2 else [[x] for x in self.values]

    def map(self, function):
        if len(self.shape) == 2:
            return Tensor([[function(x) for x in row] for row in self.values])
        return Tensor([function(x) for x in self.values])

    def binary(self, other, function, reverse=False):
        if not isinstance(other, Tensor):
            number = other.number if isinstance(other, Number) else other
            return self.map(lambda x: function(number, x) if reverse else function(x, number))
        if len(self.shape) == len(other.shape) == 1:
            return Tensor([function(a, b) for a, b in zip(self.values, other.values)])
        left, right, out = self.rows(), other.rows(), []
        for a, b in zip(left, right):
            width = max(len(a), len(b))
            out.append([function(a[i if len(a) > 1 else 0], b[i if len(b) > 1 else 0]) for i in range(width)])
        return Tensor(out)

    def __add__(self, other): return self.binary(other, lambda a, b: f32(a + b))
    def __sub__(self, other): return self.binary(other, lambda a, b: f32(a - b))
    def __mul__(self, other): return self.binary(other, lambda a, b: f32(a * b))
    def __truediv__(self, other): return self.binary(other, lambda a, b: f32(a / b))
    def __neg__(self): return self.map(lambda x: -x)
    def __lt__(self, other): return self.binary(other, lambda a, b: a < b)
    def __eq__(self, other): return self.binary(other, lambda a, b: a == b)
    def __and__(self, other): return self.binary(other, lambda a, b: a and b)

    def __getitem__(self, mask):
        return Tensor([x for x, wanted in zip(self.values, mask.values) if wanted])

    def __setitem__(self, mask, new):
        source = iter(new.values if isinstance(new, Tensor) else [float(new)] * len(self.values))
        self.values = [next(source) if wanted else x for x, wanted in zip(self.values, mask.values)]

    def flatten(self, _): return self
    def to(self, _): return self
    def min(self, _): return (Tensor([min(row) for row in self.values]),)
    def max(self, _): return (Tensor([max(row) for row in self.values]),)

    def reshape(self, shape):
        assert shape == [-1, 1]
        return Tensor([[x] for x in self.values])


class Number:
    """torch.tensor(7)."""

    def __init__(self, number): self.number = number
    def to(self, _): return self
    def __lt__(self, other): return self.number < other
    def __add__(self, other): return Number(self.number + other)
    def __truediv__(self, other): return self.number / other


def fake_torch():
    torch, nn = types.ModuleType("torch"), types.ModuleType("torch.nn")
    torch.nn, torch.Tensor = nn, Tensor
    nn.Module = type("Module", (), {"register_buffer": lambda self, name, value: setattr(self, name, value)})
    torch.tensor = Number
    torch.zeros = lambda count, device=None: Tensor([0.0] * count)
    torch.minimum = lambda a, b: a.binary(b, min)
    torch.maximum = lambda a, b: a.binary(b, max)
    torch.abs = lambda x: x.map(abs)
    torch.any = lambda x: any(x.values)
    torch.round = lambda x: x.map(lambda v: float(round(v)))  # Python rounds halves to even, as torch does
    torch.full_like = lambda x, value: x.map(lambda _: float(value))
    torch.clamp = lambda x, low, high: x.map(lambda v: min(max(v, low), getattr(high, "number", high)))
    return torch, nn


def load_quantizer(checkout):
    torch, nn = fake_torch()
    package = types.ModuleType("gptqmodel.quantization")
    logger = types.ModuleType("gptqmodel.utils.logger")
    logger.setup_logger = lambda: None
    config = types.ModuleType("gptqmodel.quantization.config")
    config.BaseQuantizeConfig = config._normalize_quant_bits = config.resolve_quant_format = None
    sys.modules |= {"torch": torch, "torch.nn": nn, "gptqmodel": types.ModuleType("gptqmodel"),
                    "gptqmodel.quantization": package, "gptqmodel.utils": types.ModuleType("gptqmodel.utils"),
                    "gptqmodel.utils.logger": logger, "gptqmodel.quantization.config": config}
    source = (Path(checkout) / "gptqmodel/quantization/quantizer.py").read_text()
    space = {"__name__": "gptqmodel.quantization.quantizer", "__package__": "gptqmodel.quantization"}
    exec(compile(source, "quantizer.py", "exec"), space)
    return space["Quantizer"]


def weights():
    """Rows with a corner each, then ordinary ones."""
    rng = random.Random(4)
    gauss = lambda sigma: f32(rng.gauss(0, sigma))
    rows = [
        [0.0] * COLUMNS,
        [0.0123] * COLUMNS,
        [-0.0123] * COLUMNS,
        [abs(gauss(0.02)) for _ in range(COLUMNS)],
        [-abs(gauss(0.02)) for _ in range(COLUMNS)],
        [gauss(1e-7) for _ in range(COLUMNS)],  # scales below the smallest f16
        [gauss(0.02) if k % 32 == 5 else -0.0 for k in range(COLUMNS)],
        [(k % 33 - 16) / 16 for k in range(COLUMNS)],  # many ties
        [gauss(1e4) for _ in range(COLUMNS)],
        [gauss(0.02) * (15 if rng.random() < 0.02 else 1) for _ in range(COLUMNS)],
        [0.5 if k % 2 else -0.5 for k in range(COLUMNS)],
        [1 + gauss(1e-4) for _ in range(COLUMNS)],
    ]
    rows += [[gauss(sigma) for _ in range(COLUMNS)] for sigma in (1e-3, 0.02, 0.02, 1)]
    assert len(rows) == ROWS
    return [[f32(x) for x in row] for row in rows]


def packed_codes(dequantized, scale, zero, maxq):
    """pack_block: clamp(round((W + scale_zeros) / scales), 0, maxq)."""
    scale_zeros = zero * scale
    codes = ((dequantized + scale_zeros) / scale).map(lambda v: min(max(round(v), 0), maxq))
    return codes.values


def quantize(quantizer_class, matrix, bits, group, sym):
    quantizer = quantizer_class(types.SimpleNamespace(bits=bits, sym=sym, mse=0.0), name="test")
    quantizer.configure(perchannel=True)
    codes, codes_bf16, scales, zeros = ([[] for _ in matrix] for _ in range(4))
    for start in range(0, COLUMNS, group):
        block = Tensor([row[start:start + group] for row in matrix])
        quantizer.find_params(block, weight=True)
        dequantized = quantizer.quantize(block)
        of_f32 = packed_codes(dequantized, quantizer.scale, quantizer.zero, 2**bits - 1)
        of_bf16 = packed_codes(dequantized.map(bf16), quantizer.scale, quantizer.zero, 2**bits - 1)
        for r in range(ROWS):
            codes[r] += of_f32[r]
            codes_bf16[r] += of_bf16[r]
            scales[r] += quantizer.scale.values[r]
            zeros[r].append(int(quantizer.zero.values[r][0]))
    return codes, codes_bf16, scales, zeros


def main():
    checkout, out = sys.argv[1:]
    quantizer_class = load_quantizer(checkout)
    matrix = weights()
    flat = lambda rows: [x for row in rows for x in row]
    tensors = {"weight": ("F32", [ROWS, COLUMNS], struct.pack(f"<{ROWS * COLUMNS}f", *flat(matrix)))}
    for bits in range(2, 9):
        for group in (32, 64, 128, -1):
            width = COLUMNS if group == -1 else group
            for sym in (True, False):
                codes, codes_bf16, scales, zeros = quantize(quantizer_class, matrix, bits, width, sym)
                name = f"b{bits}_g{'all' if group == -1 else group}_{'sym' if sym else 'asym'}"
                groups = [ROWS, COLUMNS // width]
                tensors[name + ".codes"] = ("U8", [ROWS, COLUMNS], bytes(flat(codes)))
                if codes_bf16 != codes:
                    tensors[name + ".codes_bf16"] = ("U8", [ROWS, COLUMNS], bytes(flat(codes_bf16)))
                tensors[name + ".scales"] = ("F16", groups, struct.pack(f"<{math.prod(groups)}e", *flat(scales)))
                tensors[name + ".zeros"] = ("U8", groups, bytes(flat(zeros)))
    header, offset = {"__metadata__": {"source": "ModelCloud/GPTQModel f4c327a1, Quantizer"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(out).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


main()
