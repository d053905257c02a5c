#include "formats/gguf/writer.h"

#include <set>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/gguf/header_bytes.h"
#include "formats/positional_writer.h"

namespace regauge::gguf {
namespace {

std::uint32_t type_id(const ArrayPlan& array) {
  if (const auto* block = std::get_if<BlockType>(&array.element)) return ggml_type(*block).id;
  return ggml_type(std::get<DType>(array.element))->id;
}

/// Keys that say how the source file was laid out; see create_writer.
bool is_of_the_container(const Metadata::Entry& entry) {
  if (entry.first == kAlignmentKey) return entry.second != MetaValue(kDefaultAlignment);
  return entry.first == "split.no" || entry.first == "split.count" || entry.first == "split.tensors.count";
}

std::vector<const Metadata::Entry*> keys_to_write(const Metadata& metadata) {
  std::vector<const Metadata::Entry*> kept;
  std::set<std::string_view> seen;
  for (const Metadata::Entry& entry : metadata.entries()) {
    if (is_of_the_container(entry)) continue;
    const std::string& key = entry.first;
    // ggml refuses the first two; the third it would cut short.
    if (key.empty()) throw Error(ErrorCode::unsupported, "a key is empty");
    if (!seen.insert(key).second) throw Error(ErrorCode::unsupported, "key '{}' is given twice", excerpt(key));
    if (key.find('\0') != std::string::npos) throw Error(ErrorCode::unsupported, "key '{}' holds a NUL", excerpt(key));
    kept.push_back(&entry);
  }
  return kept;
}

/// The keys of a shard, in the order in which gguf-py writes them. Types are checked strictly by llama.cpp. Source:
/// ggml-org/llama.cpp gguf-py/gguf/gguf_writer.py, add_shard_kv_data.
Metadata shard_keys(const SplitKeys& split) {
  Metadata keys;
  keys.set("split.no", static_cast<std::uint16_t>(split.number));
  keys.set("split.count", static_cast<std::uint16_t>(split.count));
  keys.set("split.tensors.count", static_cast<std::int32_t>(split.tensors));
  return keys;
}

class FileWriter final : public PositionalWriter {
 public:
  FileWriter(const std::filesystem::path& target, const WriteOptions& options, Metadata split_keys = {})
      : PositionalWriter(target, options), split_keys_(std::move(split_keys)) {}

  void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) override {
    std::uint64_t data_bytes = 0;
    std::vector<Extent> extents = place(arrays, data_bytes);
    auto keys = keys_to_write(metadata);
    for (const Metadata::Entry& entry : split_keys_.entries()) keys.push_back(&entry);
    std::vector<TensorInfo> tensors;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      TensorInfo& tensor = tensors.emplace_back();
      tensor.name = arrays[i].name;
      tensor.ne.assign(arrays[i].shape.dims.rbegin(), arrays[i].shape.dims.rend());
      tensor.type = type_id(arrays[i]);
      tensor.offset = extents[i].offset;
    }
    start({header_bytes(keys, tensors), std::move(extents), data_bytes});
  }

 private:
  /// The place of each tensor; `data_bytes` becomes the length of the section, padding included.
  static std::vector<Extent> place(std::span<const ArrayPlan> arrays, std::uint64_t& data_bytes) {
    // Room for the header and the last padding below what a file offset can say.
    constexpr std::uint64_t kMaxDataBytes = std::uint64_t{1} << 62;
    std::vector<Extent> extents;
    std::set<std::string_view> names;
    for (const ArrayPlan& array : arrays) {
      if (const auto reason = can_hold(array)) throw Error(ErrorCode::unsupported, "{}", *reason).tensor(array.name);
      if (!names.insert(array.name).second)
        throw Error(ErrorCode::invalid, "two arrays have this name").tensor(array.name);
      extents.push_back({data_bytes, array.bytes()});
      const auto end = checked_add(data_bytes, array.bytes());
      if (!end || *end > kMaxDataBytes) {
        throw Error(ErrorCode::invalid, "the arrays are too large for one file").tensor(array.name);
      }
      data_bytes = round_up(*end, kDefaultAlignment);
    }
    return extents;
  }

  Metadata split_keys_;
};

}  // namespace

std::optional<std::string> can_hold(const ArrayPlan& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  if (dtype != nullptr && ggml_type(*dtype) == nullptr) return fmt::format("ggml has no type for {}", name(*dtype));
  if (array.name.size() >= kGgufNameBytes) {
    return fmt::format("the name has {} bytes, more than the {} that ggml reads", array.name.size(),
                       kGgufNameBytes - 1);
  }
  if (array.name.find('\0') != std::string::npos) return "the name holds a NUL";
  if (array.shape.rank() > kMaxGgufDims) {
    return fmt::format("{} dimensions, more than the {} that ggml reads", array.shape.rank(), kMaxGgufDims);
  }
  const auto elements = array.shape.checked_elements();
  if (!elements) return fmt::format("shape {} has too many elements", to_string(array.shape));
  if (const auto* block = std::get_if<BlockType>(&array.element)) {
    if (array.shape.rank() < 2) return fmt::format("{} blocks need rows, two dimensions", name(*block));
    if (array.shape.columns() % block_elements(*block) != 0) {
      return fmt::format("rows of {} elements are no multiple of the {} in a block of {}", array.shape.columns(),
                         block_elements(*block), name(*block));
    }
  }
  return std::nullopt;
}

std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options) {
  return std::make_unique<FileWriter>(target, options);
}

std::unique_ptr<Writer> create_shard_writer(const std::filesystem::path& target, const WriteOptions& options,
                                            const SplitKeys& split) {
  return std::make_unique<FileWriter>(target, options, shard_keys(split));
}

}  // namespace regauge::gguf
