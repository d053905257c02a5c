#include "formats/safetensors/writer.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/positional_writer.h"
#include "formats/safetensors/header.h"

namespace regauge::safetensors {
namespace {

constexpr std::uint64_t kLengthBytes = 8;

/// A JSON string, escaped as serde_json and Python do without ASCII folding: only what must be.
std::string quoted(const std::string& text) { return Json(text).dump(); }

std::string metadata_text(const Metadata& metadata) {
  if (metadata.empty()) return R"({"format":"pt"})";
  std::string out = "{";
  for (const auto& [key, value] : metadata.entries()) {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) {
      throw Error(ErrorCode::unsupported, "metadata key '{}' is {}; a safetensors file holds strings only",
                  excerpt(key), name(type_of(value)));
    }
    if (!is_utf8(key) || !is_utf8(*text)) {
      throw Error(ErrorCode::unsupported, "metadata key '{}' or its text is not UTF-8", excerpt(key));
    }
    if (out.size() > 1) out += ',';
    out += quoted(key) + ':' + quoted(*text);
  }
  return out + '}';
}

std::vector<std::size_t> reference_order(std::span<const ArrayPlan> arrays) {
  std::vector<std::size_t> order(arrays.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    const auto rank_a = std::get<DType>(arrays[a].element);
    const auto rank_b = std::get<DType>(arrays[b].element);
    return rank_a != rank_b ? rank_a > rank_b : arrays[a].name < arrays[b].name;
  });
  return order;
}

std::string entry_text(const ArrayPlan& array, std::uint64_t begin, std::uint64_t end) {
  std::string shape;
  for (const std::int64_t dim : array.shape.dims) shape += (shape.empty() ? "" : ",") + std::to_string(dim);
  return fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", quoted(array.name),
                     name(std::get<DType>(array.element)), shape, begin, end);
}

class FileWriter final : public PositionalWriter {
 public:
  using PositionalWriter::PositionalWriter;

  void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) override {
    check(arrays);
    std::string json = "{\"__metadata__\":" + metadata_text(metadata);
    std::vector<Extent> extents(arrays.size());
    std::uint64_t end = 0;
    for (const std::size_t i : reference_order(arrays)) {
      extents[i] = {end, arrays[i].bytes()};
      const auto next = checked_add(end, extents[i].bytes);
      if (!next) throw Error(ErrorCode::invalid, "the arrays are too large for one file").tensor(arrays[i].name);
      json += ',' + entry_text(arrays[i], end, *next);
      end = *next;
    }
    json += '}';
    json.resize(round_up(json.size(), kLengthBytes), ' ');
    if (json.size() > kMaxSafetensorsHeaderBytes) {
      throw Error(ErrorCode::unsupported, "header would have {} bytes, above the limit of {}", json.size(),
                  kMaxSafetensorsHeaderBytes);
    }
    std::vector<std::byte> header(kLengthBytes + json.size());
    store_le<std::uint64_t>(header.data(), json.size());
    std::ranges::copy(bytes_of(json), header.begin() + kLengthBytes);
    start(std::move(header), std::move(extents), end);
  }

 private:
  static void check(std::span<const ArrayPlan> arrays) {
    std::set<std::string_view> names;
    for (const ArrayPlan& array : arrays) {
      if (const auto reason = can_hold(array)) throw Error(ErrorCode::unsupported, "{}", *reason).tensor(array.name);
      if (!names.insert(array.name).second)
        throw Error(ErrorCode::invalid, "two arrays have this name").tensor(array.name);
    }
  }
};

}  // namespace

std::optional<std::string> can_hold(const ArrayPlan& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  if (dtype == nullptr) {
    return fmt::format("safetensors has no dtype for {} blocks", name(std::get<BlockType>(array.element)));
  }
  if (array.name == "__metadata__") return "the name __metadata__ is taken by the header";
  if (!is_utf8(array.name)) return "the name is not UTF-8";
  if (const char* fault = name_fault(array.name)) return fmt::format("the name {}", fault);
  if (array.shape.rank() > kMaxDims) return fmt::format("more than {} dimensions", kMaxDims);
  const auto elements = array.shape.checked_elements();
  if (!elements || !storage_bytes(*dtype, static_cast<std::uint64_t>(*elements))) {
    return fmt::format("{} of shape {} is no whole number of bytes", name(*dtype), to_string(array.shape));
  }
  return std::nullopt;
}

std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options) {
  return std::make_unique<FileWriter>(target, options);
}

}  // namespace regauge::safetensors
