#include "ir/checkpoint.h"

#include <algorithm>

#include "base/error.h"

namespace regauge {

std::string_view name(Dialect dialect) {
  switch (dialect) {
    case Dialect::hf: return "hf";
    case Dialect::gguf: return "gguf";
    case Dialect::mlx: return "mlx";
  }
  return "?";
}

const Tensor* Checkpoint::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors, name, &Tensor::name);
  return found == tensors.end() ? nullptr : &*found;
}

const StoredArray* Checkpoint::find_array(std::string_view name) const {
  const auto found = std::ranges::find(arrays, name, &StoredArray::name);
  return found == arrays.end() ? nullptr : &*found;
}

bool Checkpoint::has_sidecar(std::string_view name) const {
  return std::ranges::find(sidecars, name, &Sidecar::name) != sidecars.end();
}

std::optional<std::string> Checkpoint::sidecar_text(std::string_view name, std::uint64_t max_bytes) const {
  if (!has_sidecar(name)) return std::nullopt;
  return read_text_file(folder / name, max_bytes);
}

std::uint64_t Checkpoint::file_bytes() const {
  std::uint64_t total = 0;
  for (const SourceFile& file : files) total += file.file->size();
  return total;
}

}  // namespace regauge
