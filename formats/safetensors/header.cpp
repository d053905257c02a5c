#include "formats/safetensors/header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/format.h"

namespace regauge::safetensors {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

Json parse_text(std::string_view text, const std::string& path) {
  const JsonLimits limits{.max_bytes = kMaxSafetensorsHeaderBytes};
  try {
    return parse_json(text, path, limits);
  } catch (const Error& error) {
    // The parser counts from the start of its text.
    Error located(error.code(), "header: {}", error.message());
    located.at(path);
    if (error.byte_offset()) located.offset(kLengthBytes + *error.byte_offset());
    throw located;
  }
}

/// Turns the parsed header into entries; knows where it is, for messages.
class EntryReader {
 public:
  EntryReader(const std::string& path, std::string_view text, std::uint64_t data_bytes)
      : path_(path), text_(text), data_bytes_(data_bytes) {}

  Entry read(const std::string& name, const Json& value) const {
    if (const char* fault = name_fault(name)) throw fail(name, "name {}", fault);
    if (!value.is_object()) throw fail(name, "entry is no JSON object");
    const Json* dtype = nullptr;
    const Json* shape = nullptr;
    const Json* offsets = nullptr;
    // Other fields are ignored, as the reference does.
    for (const auto& [key, field] : value.items()) {
      if (key == "dtype") dtype = &field;
      if (key == "shape") shape = &field;
      if (key == "data_offsets") offsets = &field;
    }
    if (dtype == nullptr || shape == nullptr || offsets == nullptr) {
      throw fail(name, "entry lacks {}", dtype == nullptr ? "dtype" : shape == nullptr ? "shape" : "data_offsets");
    }
    Entry entry;
    entry.name = name;
    entry.dtype = read_dtype(name, *dtype);
    entry.shape = read_shape(name, *shape);
    read_offsets(name, *offsets, entry);
    check_size(entry);
    return entry;
  }

  /// An error about `name`, at the place where the header writes it.
  template <typename... Args>
  Error fail(std::string_view name, fmt::format_string<Args...> format, Args&&... args) const {
    return fail_as(ErrorCode::malformed, name, format, std::forward<Args>(args)...);
  }

 private:
  template <typename... Args>
  Error fail_as(ErrorCode code, std::string_view name, fmt::format_string<Args...> format, Args&&... args) const {
    Error error(code, format, std::forward<Args>(args)...);
    error.tensor(excerpt(name)).at(path_);
    // The parsed header has forgotten its places. A name with other escapes than ours gets the header's start.
    const auto at = text_.find(Json(std::string(name)).dump());
    error.offset(kLengthBytes + (at == std::string_view::npos ? 0 : at));
    return error;
  }

  DType read_dtype(const std::string& name, const Json& value) const {
    if (!value.is_string()) throw fail(name, "dtype is no string");
    const auto& text = value.get_ref<const std::string&>();
    const auto dtype = dtype_from_name(text);
    if (!dtype) throw fail_as(ErrorCode::unsupported, name, "dtype '{}' is not known", excerpt(text));
    return *dtype;
  }

  std::uint64_t read_whole(const std::string& name, std::string_view what, const Json& value) const {
    // A float with a whole value is no integer here: the reference refuses 1.0 and so do other readers.
    if (!value.is_number_unsigned()) throw fail(name, "{} holds something that is no whole, non-negative number", what);
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw fail(name, "{} holds {}, which is too large", what, number);
    }
    return number;
  }

  Shape read_shape(const std::string& name, const Json& value) const {
    if (!value.is_array()) throw fail(name, "shape is no array");
    if (value.size() > kMaxDims) throw fail(name, "shape has {} dimensions, more than {}", value.size(), kMaxDims);
    Shape shape;
    shape.dims.reserve(value.size());
    for (const Json& dim : value) shape.dims.push_back(static_cast<std::int64_t>(read_whole(name, "shape", dim)));
    return shape;
  }

  void read_offsets(const std::string& name, const Json& value, Entry& entry) const {
    if (!value.is_array() || value.size() != 2) throw fail(name, "data_offsets is no pair");
    entry.begin = read_whole(name, "data_offsets", value[0]);
    entry.end = read_whole(name, "data_offsets", value[1]);
    if (entry.end < entry.begin) throw fail(name, "data ends at {}, before it begins at {}", entry.end, entry.begin);
    if (entry.end > data_bytes_) {
      throw fail(name, "data ends at byte {} of the data section, which has {}", entry.end, data_bytes_);
    }
  }

  void check_size(const Entry& entry) const {
    const auto elements = entry.shape.checked_elements();
    if (!elements) throw fail(entry.name, "shape {} has too many elements", to_string(entry.shape));
    const auto bytes = storage_bytes(entry.dtype, static_cast<std::uint64_t>(*elements));
    if (!bytes) {
      throw fail(entry.name, "{} of shape {} is no whole number of bytes", name(entry.dtype), to_string(entry.shape));
    }
    if (*bytes != entry.end - entry.begin) {
      throw fail(entry.name, "{} of shape {} takes {} bytes, but data_offsets give it {}", name(entry.dtype),
                 to_string(entry.shape), *bytes, entry.end - entry.begin);
    }
  }

  const std::string& path_;
  std::string_view text_;
  std::uint64_t data_bytes_;
};

void read_metadata(const EntryReader& reader, const Json& value, Header& header) {
  if (value.is_null()) {
    header.null_metadata = true;
    return;
  }
  if (!value.is_object()) throw reader.fail(kMetadataKey, "is no JSON object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) throw reader.fail(kMetadataKey, "value of '{}' is no string", excerpt(key));
    header.metadata.emplace_back(key, text.get<std::string>());
  }
}

/// Offsets ascend without hole or overlap and end where the file does.
void check_tiling(const EntryReader& reader, const std::vector<Entry>& entries, std::uint64_t data_bytes,
                  const File& file) {
  std::uint64_t end = 0;
  for (const Entry& entry : entries) {
    if (entry.begin < end) {
      throw reader.fail(entry.name, "data begins at {}, inside the array before it, which ends at {}", entry.begin,
                        end);
    }
    if (entry.begin > end)
      throw reader.fail(entry.name, "data begins at {}, after a hole that begins at {}", entry.begin, end);
    end = entry.end;
  }
  if (end != data_bytes) {
    throw Error(ErrorCode::malformed, "header describes {} bytes of data but {} follow it", end, data_bytes)
        .at(file.path())
        .offset(file.size() - data_bytes + end);
  }
}

}  // namespace

const char* name_fault(std::string_view name) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (std::ranges::any_of(name, is_control)) return "holds control characters";
  if (name.starts_with('/') || name.starts_with('\\')) return "is an absolute path";
  for (std::size_t begin = 0; begin <= name.size();) {
    const auto end = std::min(name.find_first_of("/\\", begin), name.size());
    if (name.substr(begin, end - begin) == "..") return "climbs out of its folder";
    begin = end + 1;
  }
  return nullptr;
}

bool looks_like_safetensors(std::span<const std::byte> head, std::uint64_t size) {
  if (head.size() <= kLengthBytes) return false;
  const auto length = load_le<std::uint64_t>(head.data());
  return length > 0 && length <= kMaxSafetensorsHeaderBytes && length <= size - kLengthBytes &&
         head[kLengthBytes] == std::byte{'{'};
}

Header read_header(const File& file) {
  const auto fail = [&file](std::uint64_t offset, std::string message) {
    return Error(ErrorCode::malformed, "{}", message).at(file.path()).offset(offset);
  };
  const auto head = file.read_range(0, std::min<std::uint64_t>(file.size(), Source::kHeadBytes));
  if (head.size() <= kLengthBytes || head[kLengthBytes] != std::byte{'{'}) {
    if (const auto foreign = describe_foreign(head)) {
      throw Error(ErrorCode::unsupported, "is {}", *foreign).at(file.path()).offset(0);
    }
  }
  if (file.size() < kLengthBytes) {
    throw fail(0, fmt::format("a file of {} bytes has no room for the length of a safetensors header", file.size()));
  }
  const auto length = load_le<std::uint64_t>(head.data());
  if (length > kMaxSafetensorsHeaderBytes) {
    throw fail(0, fmt::format("header length {} is above the limit of {}", length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    throw fail(0, fmt::format("header length {} is more than the file has, {} bytes", length, file.size()));
  }
  const auto bytes = file.read_range(kLengthBytes, length);
  const std::string_view text = text_of(bytes);
  if (!text.starts_with('{')) throw fail(kLengthBytes, "header does not begin with a brace");
  const Json root = parse_text(text, file.path());

  Header header;
  header.data_offset = kLengthBytes + length;
  const std::uint64_t data_bytes = file.size() - header.data_offset;
  const EntryReader reader(file.path(), text, data_bytes);
  header.entries.reserve(root.size());
  for (const auto& [name, value] : root.items()) {
    if (name == kMetadataKey) {
      read_metadata(reader, value, header);
    } else {
      header.entries.push_back(reader.read(name, value));
    }
  }
  // Stable, so that empty arrays at one place stay in the order of the header.
  std::ranges::stable_sort(header.entries, [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  check_tiling(reader, header.entries, data_bytes, file);
  return header;
}

}  // namespace regauge::safetensors
