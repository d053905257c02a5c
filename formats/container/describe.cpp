#include "formats/container/describe.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <unordered_map>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"

namespace regauge::container {
namespace {

void check_name(const std::string& name, const Checkpoint& checkpoint) {
  if (const char* fault = member_name_fault(name)) {
    throw Error(ErrorCode::unsupported, "a container cannot hold the file '{}': the name {}", printable(excerpt(name)),
                fault)
        .at(checkpoint.path);
  }
}

void add_files(const Checkpoint& checkpoint, Description& description) {
  for (const SourceFile& file : checkpoint.files) {
    check_name(file.name, checkpoint);
    // An adapter that was named beside the checkpoint. Inside a container it would have to be named again, and could not.
    if (checkpoint.folder && file.file->path() != checkpoint.folder->path_of(file.name)) {
      throw Error(
          ErrorCode::unsupported,
          "lies outside of the checkpoint, whose files alone a container can hold: put it into its directory first")
          .at(file.file->path());
    }
    description.files.push_back({file.name, file.file->size()});
  }
}

/// Arrays must lie in their files one behind the other. Every reader sees to it; a checkpoint put together otherwise might
/// not, and what lies between arrays would be anything.
void check_place(const Checkpoint& checkpoint, const StoredArray& array, std::uint64_t end_before) {
  const File& file = *checkpoint.files.at(array.file).file;
  const auto end = checked_add(array.offset, array.bytes);
  if (array.offset >= end_before && end && *end <= file.size()) return;
  throw Error(ErrorCode::malformed, "overlaps the array before it or leaves its file")
      .tensor(excerpt(array.name))
      .at(file.path())
      .offset(array.offset);
}

void add_sidecars(const Checkpoint& checkpoint, Description& description) {
  if (!checkpoint.sidecars.empty() && !checkpoint.folder) {
    throw Error(ErrorCode::invalid, "a checkpoint without a folder has no files beside it").at(checkpoint.path);
  }
  for (const Sidecar& sidecar : checkpoint.sidecars) {
    check_name(sidecar.name, checkpoint);
    description.sidecars.push_back({sidecar.name, sidecar.bytes});
  }
  const bool has_config_beside = description.format == "gptq" || description.format == "mlx";
  if (checkpoint.entry_file.empty() || !has_config_beside || !checkpoint.folder) return;
  // Of a single file these readers look at the configuration in its folder, without which the codes mean nothing.
  for (const char* name : {"config.json", "quantize_config.json", "quant_config.json"}) {
    if (const auto bytes = checkpoint.folder->file_bytes(name)) description.sidecars.push_back({name, *bytes});
  }
}

}  // namespace

Contents describe(const Checkpoint& checkpoint, ValueDigests values) {
  Contents contents;
  Description& description = contents.description;
  description.format = checkpoint.array_format();
  description.entry = checkpoint.entry_file;
  add_files(checkpoint, description);
  add_sidecars(checkpoint, description);

  contents.arrays.resize(checkpoint.arrays.size());
  std::iota(contents.arrays.begin(), contents.arrays.end(), std::size_t{0});
  std::ranges::stable_sort(contents.arrays, {}, [&](std::size_t index) {
    const StoredArray& array = checkpoint.arrays[index];
    return std::tuple(array.file, array.offset, array.bytes);
  });
  std::vector<std::size_t> described(checkpoint.arrays.size());
  std::vector<std::uint64_t> ends(checkpoint.files.size());
  for (std::size_t i = 0; i < contents.arrays.size(); ++i) {
    const StoredArray& array = checkpoint.arrays[contents.arrays[i]];
    check_place(checkpoint, array, ends.at(array.file));
    ends[array.file] = array.offset + array.bytes;
    described[contents.arrays[i]] = i;
    description.arrays.push_back({array.name, element_name(array), array.shape, array.file, array.offset, array.bytes});
  }

  std::unordered_map<std::string_view, Digest128> digests;
  for (const auto& [name, digest] : values) digests.emplace(name, digest);
  for (const Tensor& tensor : checkpoint.tensors) {
    LogicalTensor one{tensor.name, to_string(tensor.encoding), tensor.shape, {}, std::nullopt};
    for (const std::size_t array : tensor.arrays) one.arrays.push_back(described.at(array));
    if (const auto digest = digests.find(tensor.name); digest != digests.end()) one.value_digest = digest->second;
    description.tensors.push_back(std::move(one));
  }
  return contents;
}

}  // namespace regauge::container
