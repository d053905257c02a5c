#include "inspect/catalog.h"

#include <algorithm>
#include <utility>

#include "ir/low_rank.h"
#include "models/low_rank.h"

namespace regauge::inspect {
namespace {

std::uint64_t count(const Shape& shape) { return static_cast<std::uint64_t>(shape.elements()); }

bool is_number(std::string_view text) {
  // Nine digits fit an int; longer ones are no block number.
  return !text.empty() && text.size() <= 9 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

void add_factors(const Tensor& tensor, const Checkpoint& checkpoint, Entry& entry) {
  for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
    if (const Part* part = tensor.find(id)) {
      entry.factor_parameters += count(part->shape);
    }
  }
  if (!tensor.has_low_rank()) return;
  entry.rank = low_rank_groups(tensor).rank;
  for (const std::size_t index : tensor.arrays) {
    const StoredArray& array = checkpoint.arrays[index];
    if (!is_factor_name(array.name)) continue;
    entry.bytes -= array.bytes;
    // A stack in the adapter may be shared by modules that the model keeps apart.
    const Part& part = tensor.part(factor_of(array.name).value_or(PartId::lowrank_a));
    entry.factor_bytes += std::min(array.bytes, count(part.shape) * static_cast<std::uint64_t>(bits(part.dtype)) / 8);
  }
}

/// By the architecture's own description; false when it has none for this name.
bool place_known(const Checkpoint& checkpoint, const Tensor& tensor, const Architecture& architecture, Entry& entry) {
  entry.assembly = architecture.parse(checkpoint.dialect, tensor.name, tensor.shape);
  if (!entry.assembly || entry.assembly->pieces.empty()) return false;
  const Slot& slot = entry.assembly->pieces.front().slot;
  entry.component = slot.component;
  entry.layer = slot.layer;
  entry.role = slot.role;
  entry.tied_copy = slot.component == Component::head && architecture.tied_head();
  // Factors of an adapter file bear the name of the weight that they correct.
  if (is_factor_name(tensor.name)) {
    entry.component = Component::adapter;
    entry.tied_copy = false;
    entry.assembly.reset();
  }
  return true;
}

void place(const Checkpoint& checkpoint, const Tensor& tensor, const Architecture* architecture, Entry& entry) {
  if (architecture != nullptr && place_known(checkpoint, tensor, *architecture, entry)) return;
  BlockName block = split_block_name(tensor.name);
  entry.layer = block.layer;
  entry.role = std::move(block.rest);
  if (is_factor_name(tensor.name)) entry.component = Component::adapter;
}

}  // namespace

bool is_factor_name(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  for (const std::string_view suffix : {".lora_a", ".lora_b", ".lora_a.weight", ".lora_b.weight"}) {
    if (lower.ends_with(suffix)) return true;
  }
  return false;
}

BlockName split_block_name(std::string_view name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t dot = std::min(name.find('.', begin), name.size());
    const std::string_view step = name.substr(begin, dot - begin);
    // A number at the very end names no block but a weight of it ("v.patch_embd.weight.1").
    if (begin > 0 && dot < name.size() && is_number(step)) {
      return {std::stoi(std::string(step)), std::string(name.substr(dot + 1))};
    }
    begin = dot + 1;
  }
  return {-1, std::string(name)};
}

Catalog make_catalog(const Checkpoint& checkpoint, const Architecture* architecture) {
  Catalog catalog;
  catalog.entries.reserve(checkpoint.tensors.size());
  std::vector<bool> used(checkpoint.arrays.size(), false);
  for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
    const Tensor& tensor = checkpoint.tensors[i];
    Entry entry;
    entry.tensor = i;
    entry.encoding = to_string(tensor.encoding);
    entry.quantized = is_quantized(tensor.encoding);
    for (const std::size_t index : tensor.arrays) {
      entry.bytes += checkpoint.arrays[index].bytes;
      used[index] = true;
    }
    place(checkpoint, tensor, architecture, entry);
    add_factors(tensor, checkpoint, entry);
    if (entry.component == Component::adapter) {
      entry.factor_parameters = count(tensor.shape);
      entry.factor_bytes = entry.bytes;
      entry.bytes = 0;
    } else if (!entry.tied_copy) {
      entry.parameters = count(tensor.shape);
    }
    catalog.entries.push_back(std::move(entry));
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) catalog.unused_arrays.push_back(i);
  }
  return catalog;
}

}  // namespace regauge::inspect
