#include "convert/importance.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "formats/format.h"
#include "ir/checkpoint.h"
#include "ir/tensor.h"

namespace regauge {
namespace {

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";

/// The name that a tensor belongs to, when it is called `name` + suffix.
std::optional<std::string> without(std::string_view suffix, std::string_view name) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return std::string(name.substr(0, name.size() - suffix.size()));
}

std::vector<float> read_values(const Tensor& tensor) {
  if (tensor.encoding != Encoding(Dense{DType::f32})) {
    throw Error(ErrorCode::malformed, "sums and counts are F32, not {}", to_string(tensor.encoding))
        .tensor(tensor.name);
  }
  // The reader has seen that the file is as large as its tensors say.
  const RowSource& rows = *tensor.part(PartId::values).rows;
  std::vector<float> values(static_cast<std::size_t>(rows.rows()) * rows.row_bytes() / sizeof(float));
  rows.read({0, rows.rows()}, std::as_writable_bytes(std::span(values)));
  return values;
}

void require_finite_values(std::span<const float> values, std::string_view name) {
  if (std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) return;
  throw Error(ErrorCode::malformed, "an importance is not finite").tensor(name);
}

/// Divides the sums of each matrix by its count, rounded to a whole number; a matrix that nothing went through (an expert
/// never chosen) has no preference among its columns.
void divide(std::span<float> sums, std::span<const float> counts, std::string_view name) {
  if (counts.empty() || sums.empty() || sums.size() % counts.size() != 0) {
    throw Error(ErrorCode::malformed, "{} sums do not go with {} counts", sums.size(), counts.size()).tensor(name);
  }
  const std::size_t columns = sums.size() / counts.size();
  for (std::size_t m = 0; m < counts.size(); ++m) {
    if (!(std::abs(counts[m]) < 0x1p62F)) throw Error(ErrorCode::malformed, "no count is {}", counts[m]).tensor(name);
    const auto count = static_cast<float>(std::llround(counts[m]));
    for (float& value : sums.subspan(m * columns, columns)) value = count > 0 ? value / count : 1.0F;
  }
}

/// Positional reads of little-endian fields, none of them beyond the end of the file.
class Fields {
 public:
  explicit Fields(const File& file) : file_(file) {}

  std::uint64_t left() const { return file_.size() - at_; }

  std::int32_t number(std::string_view what) {
    std::byte bytes[sizeof(std::int32_t)];
    take(bytes, sizeof bytes, what);
    return load_le<std::int32_t>(bytes);
  }

  /// A field of `count` elements; the count comes from the file, so it is held against the file before it is believed.
  template <typename Container>
  Container many(std::int32_t count, std::string_view what) {
    using Element = typename Container::value_type;
    if (count < 0) throw Error(ErrorCode::malformed, "{} has a length of {}", what, count).offset(at_);
    const auto bytes = checked_mul(static_cast<std::uint64_t>(count), sizeof(Element));
    require_left(bytes.value_or(left() + 1), what);
    Container elements(static_cast<std::size_t>(count), Element{});
    take(reinterpret_cast<std::byte*>(elements.data()), *bytes, what);
    return elements;
  }

  void require_left(std::uint64_t bytes, std::string_view what) const {
    if (bytes <= left()) return;
    throw Error(ErrorCode::malformed, "{} takes {} bytes but only {} are left", what, bytes, left()).offset(at_);
  }

 private:
  void take(std::byte* out, std::uint64_t bytes, std::string_view what) {
    require_left(bytes, what);
    file_.read_at(at_, std::span(out, static_cast<std::size_t>(bytes)));
    at_ += bytes;
  }

  const File& file_;
  std::uint64_t at_ = 0;
};

}  // namespace

Importance Importance::read(const std::filesystem::path& path) {
  Importance importance;
  importance.path_ = path.string();
  try {
    const Source source = probe(path);
    if (source.is_directory) throw Error(ErrorCode::invalid, "an importance matrix is a file, not a directory");
    // The older form begins with a number of entries, which "GGUF" read as a number would not be.
    if (text_of(std::span(source.head).first(std::min<std::size_t>(4, source.head.size()))) == "GGUF") {
      importance.read_gguf(path);
    } else {
      importance.read_legacy(path);
    }
    for (const auto& [name, values] : importance.entries_) require_finite_values(values, name);
  } catch (Error& error) {
    error.at(importance.path_);
    throw;
  }
  return importance;
}

void Importance::read_gguf(const std::filesystem::path& path) {
  const Checkpoint file = find_format("gguf")->open(probe(path), {});
  std::map<std::string, std::vector<float>, std::less<>> counts;
  for (const Tensor& tensor : file.tensors) {
    if (auto name = without(kSums, tensor.name)) entries_[*std::move(name)] = read_values(tensor);
    if (auto name = without(kCounts, tensor.name)) counts[*std::move(name)] = read_values(tensor);
  }
  for (const char* key : {"imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"}) {
    if (file.metadata.find(key) == nullptr) throw Error(ErrorCode::malformed, "no importance matrix: no key {}", key);
  }
  if (entries_.empty()) throw Error(ErrorCode::malformed, "the importance matrix has no entries");
  for (const auto& entry : counts) {
    if (!entries_.contains(entry.first)) throw Error(ErrorCode::malformed, "counts without sums").tensor(entry.first);
  }
  for (auto& entry : entries_) {
    const auto count = counts.find(entry.first);
    if (count == counts.end()) throw Error(ErrorCode::malformed, "sums without counts").tensor(entry.first);
    divide(entry.second, count->second, entry.first);
  }
  const std::uint64_t chunks = file.metadata.get_uint("imatrix.chunk_count").value_or(0);
  if (chunks > 0xFFFFFFFFU) throw Error(ErrorCode::malformed, "imatrix.chunk_count {} is too large", chunks);
  chunks_ = static_cast<std::uint32_t>(chunks);
  const MetaArray* datasets = file.metadata.get_array("imatrix.datasets");
  if (datasets->element == MetaType::string) datasets_ = std::get<std::vector<std::string>>(datasets->values);
}

void Importance::read_legacy(const std::filesystem::path& path) {
  const File file = File::open(path);
  Fields fields(file);
  const std::int32_t entries = fields.number("the number of entries");
  if (entries < 1) throw Error(ErrorCode::malformed, "the importance matrix has no entries");
  // Length, calls, number of values and one value are the least that an entry takes.
  fields.require_left(std::uint64_t{16} * static_cast<std::uint64_t>(entries), "the entries");
  for (std::int32_t i = 0; i < entries; ++i) {
    const auto name = fields.many<std::string>(fields.number("a name"), "a name");
    const std::int32_t calls = fields.number("the number of calls");
    const std::int32_t values = fields.number("the number of values");
    if (values < 1) throw Error(ErrorCode::malformed, "an entry has {} values", values).tensor(name);
    auto importance = fields.many<std::vector<float>>(values, "the values");
    if (calls > 0) {
      for (float& value : importance) value /= static_cast<float>(calls);
    }
    entries_[name] = std::move(importance);
  }
  // What follows is optional, and older files end here.
  if (fields.left() < sizeof(std::int32_t)) return;
  const std::int32_t chunks = fields.number("the number of chunks");
  chunks_ = chunks > 0 ? static_cast<std::uint32_t>(chunks) : 0;
  if (fields.left() < sizeof(std::int32_t)) return;
  const std::int32_t length = fields.number("the dataset");
  if (length > 0) datasets_.push_back(fields.many<std::string>(length, "the dataset"));
}

std::span<const float> Importance::of(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? std::span<const float>() : std::span<const float>(found->second);
}

std::span<const float> Importance::of(std::string_view name, std::int64_t columns, std::int64_t matrices) const {
  const auto weights = of(name);
  const std::int64_t wanted[] = {columns, matrices};
  const auto elements = checked_product(wanted);
  if (weights.empty() || (elements && weights.size() == static_cast<std::uint64_t>(*elements))) return weights;
  if (name == "token_embd.weight") return {};
  throw Error(ErrorCode::malformed, "the importance matrix has {} weights for it, but it has {} matrices of {} columns",
              weights.size(), matrices, columns)
      .tensor(name)
      .at(path_);
}

std::vector<std::string> Importance::names() const {
  std::vector<std::string> out;
  for (const auto& entry : entries_) out.push_back(entry.first);
  return out;
}

}  // namespace regauge
