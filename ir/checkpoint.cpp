#include "ir/checkpoint.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "base/text.h"

namespace regauge {

std::string_view name(Dialect dialect) {
  switch (dialect) {
    case Dialect::hf: return "hf";
    case Dialect::gguf: return "gguf";
    case Dialect::mlx: return "mlx";
  }
  return "?";
}

std::string Checkpoint::array_version() const {
  if (packed_format.empty()) return format_version;
  // "1 (gptq v2)". Source: formats/container/container.cpp, open.
  const std::string before = "(" + packed_format + " ";
  const auto at = format_version.find(before);
  if (at == std::string::npos || format_version.back() != ')') return {};
  return format_version.substr(at + before.size(), format_version.size() - at - before.size() - 1);
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
  if (!folder) throw Error(ErrorCode::not_found, "a checkpoint without a folder has no files beside it").at(path);
  return folder->read_text(name, max_bytes);
}

std::uint64_t Checkpoint::file_bytes() const {
  std::uint64_t total = 0;
  for (const SourceFile& file : files) total += file.file->size();
  return total;
}

void Checkpoint::check_array_names() const {
  std::unordered_map<std::string_view, std::size_t> seen;
  seen.reserve(arrays.size());
  for (const StoredArray& array : arrays) {
    const auto [known, is_new] = seen.emplace(array.name, array.file);
    if (is_new) continue;
    throw Error(ErrorCode::malformed, "is in '{}' as well", files.at(known->second).name)
        .tensor(excerpt(array.name))
        .at(files.at(array.file).file->path())
        .offset(array.offset);
  }
}

std::shared_ptr<const File> open_sidecar(const Checkpoint& checkpoint, std::string_view name) {
  if (!checkpoint.has_sidecar(name)) {
    throw Error(ErrorCode::not_found, "has no file '{}'", excerpt(name)).at(checkpoint.path);
  }
  return std::make_shared<const File>(checkpoint.folder->open(name));
}

}  // namespace regauge
