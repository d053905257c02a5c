#include "formats/safetensors/layout.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/safetensors/writer.h"

namespace regauge::safetensors {
namespace {

constexpr std::uint64_t kLengthBytes = 8;

/// A JSON string, escaped as serde_json and Python do without ASCII folding: only what must be.
std::string quoted(const std::string& text) { return Json(text).dump(); }

std::string metadata_text(const Metadata& metadata, const FileStyle& style) {
  if (metadata.empty()) return style.mark.empty() ? "null" : fmt::format(R"({{"format":"{}"}})", style.mark);
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

void check(std::span<const ArrayPlan> arrays) {
  std::set<std::string_view> names;
  for (const ArrayPlan& array : arrays) {
    if (const auto reason = can_hold(array)) throw Error(ErrorCode::unsupported, "{}", *reason).tensor(array.name);
    if (!names.insert(array.name).second)
      throw Error(ErrorCode::invalid, "two arrays have this name").tensor(array.name);
  }
}

std::vector<std::size_t> data_order(std::span<const ArrayPlan> arrays, FileStyle::Data data) {
  std::vector<std::size_t> order(arrays.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (data == FileStyle::Data::as_given) return order;
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    const auto rank_a = std::get<DType>(arrays[a].element);
    const auto rank_b = std::get<DType>(arrays[b].element);
    return rank_a != rank_b ? rank_a > rank_b : arrays[a].name < arrays[b].name;
  });
  return order;
}

std::string entry_text(const ArrayPlan& array, const Extent& extent, FileStyle::Keys keys) {
  std::string shape;
  for (const std::int64_t dim : array.shape.dims) shape += (shape.empty() ? "" : ",") + std::to_string(dim);
  const std::string_view dtype = name(std::get<DType>(array.element));
  const std::uint64_t end = extent.offset + extent.bytes;
  if (keys == FileStyle::Keys::sorted) {
    return fmt::format(R"({{"data_offsets":[{},{}],"dtype":"{}","shape":[{}]}})", extent.offset, end, dtype, shape);
  }
  return fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", dtype, shape, extent.offset, end);
}

}  // namespace

FileLayout lay_out(const Metadata& metadata, std::span<const ArrayPlan> arrays, const FileStyle& style) {
  check(arrays);
  FileLayout layout;
  layout.extents.resize(arrays.size());
  std::vector<std::pair<std::string_view, std::string>> entries{{"__metadata__", metadata_text(metadata, style)}};
  for (const std::size_t i : data_order(arrays, style.data)) {
    layout.extents[i] = {layout.data_bytes, arrays[i].bytes()};
    const auto end = checked_add(layout.data_bytes, layout.extents[i].bytes);
    if (!end) throw Error(ErrorCode::invalid, "the arrays are too large for one file").tensor(arrays[i].name);
    entries.emplace_back(arrays[i].name, entry_text(arrays[i], layout.extents[i], style.keys));
    layout.data_bytes = *end;
  }
  if (style.keys == FileStyle::Keys::sorted) std::ranges::sort(entries);
  std::string json;
  for (const auto& [key, text] : entries) {
    json += json.empty() ? '{' : ',';
    json += quoted(std::string(key));
    json += ':';
    json += text;
  }
  json += '}';
  if (style.is_padded) json.resize(round_up(json.size(), kLengthBytes), ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    throw Error(ErrorCode::unsupported, "header would have {} bytes, above the limit of {}", json.size(),
                kMaxSafetensorsHeaderBytes);
  }
  layout.header.resize(kLengthBytes + json.size());
  store_le<std::uint64_t>(layout.header.data(), json.size());
  std::ranges::copy(bytes_of(json), layout.header.begin() + kLengthBytes);
  return layout;
}

}  // namespace regauge::safetensors
