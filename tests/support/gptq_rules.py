#!/usr/bin/env python3
"""Reads a GPTQ directory as its loaders do and tells which modules they would take for something else than is stored.

The rules of `dynamic` are applied by Python's own re.match to names without ".weight", as GPTQModel
(gptqmodel/quantization/config.py, dynamic_get: excluding rules first) and vLLM (quantization/utils/gptq_utils.py,
get_dynamic_override: in the order of the file, and to the names of the matrices that it fuses) apply them.

    gptq_rules.py DIRECTORY

One JSON document on stdout: `quantized` and `dense`, the names of the linear modules of text model and MTP layer; `wrong`, a
line for each that a loader would misread; `rules`, the keys of dynamic; `same`, whether config.json has the same section.
"""

import glob
import json
import os
import re
import struct
import sys

LINEAR = re.compile(r"(?:^mtp\.fc|layers\.\d+\..*(?:_proj|_proj_qkv|_proj_z|_proj_a|_proj_b))$")
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj"),
         "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"), "in_proj_ba": ("in_proj_b", "in_proj_a")}


def arrays_of(directory):
    shapes = {}
    for path in sorted(glob.glob(os.path.join(directory, "*.safetensors"))):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        shapes.update({name: entry["shape"] for name, entry in header.items() if name != "__metadata__"})
    return shapes


def bits_of(rules, default, name):
    """What a loader that tries `rules` in this order takes the module for: its bits, or None where it is dense."""
    for pattern, values in rules:
        if pattern.startswith("-:"):
            if re.match(pattern.removeprefix("-:"), name):
                return None
        elif re.match(pattern.removeprefix("+:"), name):
            return values.get("bits", default)
    return default


def main():
    directory = sys.argv[1]
    with open(os.path.join(directory, "quantize_config.json"), encoding="utf-8") as file:
        section = json.load(file)
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
        same = json.load(file).get("quantization_config") == section
    rules = list(section.get("dynamic", {}).items())
    excluding_first = sorted(rules, key=lambda rule: not rule[0].startswith("-"))

    stored = {}
    for name, shape in arrays_of(directory).items():
        module, _, leaf = name.rpartition(".")
        if not LINEAR.search(module):
            continue
        if leaf == "weight" and len(shape) == 2:
            stored[module] = None
        elif leaf == "qweight":
            stored[module] = shape[0]  # rows of words; bits follow with the columns
    columns = {name.rpartition(".")[0]: shape[0] for name, shape in arrays_of(directory).items() if name.endswith(".g_idx")}
    stored = {module: rows if rows is None else 32 * rows // columns[module] for module, rows in stored.items()}

    wrong = []
    for module, bits in stored.items():
        for loader, order in (("GPTQModel", excluding_first), ("vLLM", rules)):
            taken = bits_of(order, section["bits"], module)
            if taken != bits:
                wrong.append(f"{loader}: {module} is stored in {bits} bits and taken for {taken}")
    for module in stored:
        stem, _, leaf = module.rpartition(".")
        for fused, parts in FUSED.items():
            if leaf != parts[0]:
                continue
            bits = {stored.get(f"{stem}.{part}", "absent") for part in parts}
            taken = bits_of(rules, section["bits"], f"{stem}.{fused}")
            if len(bits) == 1 and taken not in bits:
                wrong.append(f"vLLM: {stem}.{fused} is stored in {bits} bits and taken for {taken}")
    print(json.dumps({"quantized": sorted(m for m, bits in stored.items() if bits is not None),
                      "dense": sorted(m for m, bits in stored.items() if bits is None),
                      "wrong": wrong, "rules": [pattern for pattern, _ in rules], "same": same}))


if __name__ == "__main__":
    main()
