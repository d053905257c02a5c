#include "formats/gguf/split.h"

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"

namespace regauge::gguf {
namespace {

// Source: base/output_file.h, which writes a file under this name until it is complete.
constexpr std::string_view kPartial = ".partial";

// Source: ggml-org/llama.cpp src/llama.cpp, llama_split_path: "%s-%05d-of-%05d.gguf", counted from 1.
std::string shard_suffix(std::uint64_t number, std::uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

}  // namespace

std::optional<SplitKeys> split_keys(const Metadata& metadata, const std::string& path) {
  const auto count = metadata.get_uint("split.count");
  const auto number = metadata.get_uint("split.no");
  if (!count) {
    if (number) throw Error(ErrorCode::malformed, "key 'split.no' is there without 'split.count'").at(path);
    return std::nullopt;
  }
  if (!number) throw Error(ErrorCode::malformed, "key 'split.count' is there without 'split.no'").at(path);
  if (*number >= std::max<std::uint64_t>(*count, 1)) {
    throw Error(ErrorCode::malformed, "key 'split.no' is {}, out of range for {} shards", *number, *count).at(path);
  }
  if (*count <= 1) return std::nullopt;
  const MetaValue* tensors = metadata.find("split.tensors.count");
  if (tensors == nullptr) throw Error(ErrorCode::malformed, "key 'split.tensors.count' is missing").at(path);
  const auto* total = std::get_if<std::int32_t>(tensors);
  if (total == nullptr || *total < 0) {
    throw Error(ErrorCode::malformed, "key 'split.tensors.count' is no number of tensors").at(path);
  }
  return SplitKeys{*number, *count, static_cast<std::uint64_t>(*total)};
}

std::vector<std::filesystem::path> shard_paths(const std::filesystem::path& path, const SplitKeys& keys) {
  const std::string name = path.filename().native();
  const std::string_view state = name.ends_with(kPartial) ? kPartial : std::string_view();
  const std::string suffix = shard_suffix(keys.number, keys.count).append(state);
  if (!name.ends_with(suffix)) {
    throw Error(ErrorCode::malformed, "is shard {} of {} by its keys, but its name does not end in '{}'",
                keys.number + 1, keys.count, suffix)
        .at(path.native());
  }
  const std::string prefix = name.substr(0, name.size() - suffix.size());
  std::vector<std::filesystem::path> paths;
  for (std::uint64_t i = 0; i < keys.count; ++i) {
    paths.push_back(path.parent_path() / (prefix + shard_suffix(i, keys.count).append(state)));
  }
  return paths;
}

std::filesystem::path shard_path(const std::filesystem::path& target, std::uint64_t number, std::uint64_t count) {
  constexpr std::string_view kExtension = ".gguf";
  std::string name = target.filename().native();
  if (name.ends_with(kExtension)) name.resize(name.size() - kExtension.size());
  return target.parent_path() / (name + shard_suffix(number, count));
}

void check_shard(const Metadata& metadata, std::uint64_t number, const SplitKeys& first, const std::string& path) {
  const auto keys = split_keys(metadata, path);
  if (!keys) throw Error(ErrorCode::malformed, "has no split keys, though it is named as a shard").at(path);
  if (keys->number != number) {
    throw Error(ErrorCode::malformed, "key 'split.no' is {} in what is named shard {}", keys->number, number + 1)
        .at(path);
  }
  if (keys->count != first.count) {
    throw Error(ErrorCode::malformed, "key 'split.count' is {} here and {} in the first shard", keys->count,
                first.count)
        .at(path);
  }
  if (keys->tensors != first.tensors) {
    throw Error(ErrorCode::malformed, "key 'split.tensors.count' is {} here and {} in the first shard", keys->tensors,
                first.tensors)
        .at(path);
  }
}

}  // namespace regauge::gguf
