#include "formats/container/description.h"

#include <array>
#include <limits>
#include <set>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/output_directory.h"
#include "base/render.h"
#include "base/text.h"
#include "formats/container/keys.h"

namespace regauge::container {
namespace {

constexpr std::string_view kFormat = "regauge.container.format";
constexpr std::string_view kEntry = "regauge.container.entry";
constexpr std::string_view kFiles = "regauge.container.files";
constexpr std::string_view kSidecars = "regauge.container.sidecars";
constexpr std::string_view kArrays = "regauge.container.arrays";
constexpr std::string_view kTensors = "regauge.container.tensors";

// What the root digest covers, in this order.
constexpr std::array kDescriptionKeys = {kFormat, kEntry, kFiles, kSidecars, kArrays, kTensors};

Json json_of(const Shape& shape) {
  Json dims = Json::array();
  for (const std::int64_t dim : shape.dims) dims.push_back(dim);
  return dims;
}

Json json_of(const Member& member) { return {{"name", member.name}, {"bytes", member.bytes}}; }

Json json_of(const Array& array) {
  return {{"name", json_text(array.name)}, {"element", json_text(array.element)},
          {"shape", json_of(array.shape)}, {"file", array.file},
          {"offset", array.offset},        {"bytes", array.bytes}};
}

Json json_of(const LogicalTensor& tensor) {
  Json json = {{"name", json_text(tensor.name)},
               {"encoding", json_text(tensor.encoding)},
               {"shape", json_of(tensor.shape)},
               {"arrays", tensor.arrays}};
  if (tensor.value_digest) json["values"] = hex(*tensor.value_digest);
  return json;
}

/// One JSON text an item: a description of a hundred thousand arrays in a single string would be more than some readers of
/// GGUF take. Empty lists are left out, because some writers of GGUF cannot copy them.
template <typename Item>
void append(Metadata& keys, std::string_view key, const std::vector<Item>& items) {
  if (items.empty()) return;
  std::vector<std::string> texts;
  texts.reserve(items.size());
  for (const Item& item : items) texts.push_back(json_of(item).dump());
  keys.append(std::string(key), MetaArray{MetaType::string, std::move(texts)});
}

/// Reads the fields of one item's object.
class ItemReader {
  /// What the reads of base/json.h throw, with the place in the container.
  template <typename Read>
  auto guarded(Read read) const {
    try {
      return read();
    } catch (const Error& error) {
      throw fail(error.message());
    }
  }

 public:
  ItemReader(const KeyReader& keys, std::string_view key, std::size_t index)
      : keys_(keys), key_(key), index_(index), json_(parse(keys.texts(key).at(index))) {}

  std::uint64_t number(std::string_view field) const {
    const auto value = guarded([&] { return get_int(json_, field); });
    if (!value || *value < 0) throw fail(fmt::format("has no number '{}'", field));
    return static_cast<std::uint64_t>(*value);
  }

  std::string text(std::string_view field) const {
    auto value = guarded([&] { return get_string(json_, field); });
    if (!value) throw fail(fmt::format("has no text '{}'", field));
    return std::move(*value);
  }

  std::optional<Digest128> digest(std::string_view field) const {
    const auto value = guarded([&] { return get_string(json_, field); });
    if (!value) return std::nullopt;
    const auto digest = digest128_from_hex(*value);
    if (!digest) throw fail(fmt::format("has no digest in '{}'", field));
    return digest;
  }

  std::vector<std::int64_t> numbers(std::string_view field) const {
    const Json* list = guarded([&] { return get_array(json_, field); });
    if (list == nullptr) throw fail(fmt::format("has no list '{}'", field));
    std::vector<std::int64_t> values;
    for (const Json& value : *list) {
      const bool fits =
          value.is_number_unsigned() &&
          value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
      if (!fits) throw fail(fmt::format("has '{}' with something else than whole numbers", field));
      values.push_back(value.get<std::int64_t>());
    }
    return values;
  }

  Shape shape() const {
    Shape shape(numbers("shape"));
    if (shape.rank() > kMaxDims) throw fail(fmt::format("has {} dimensions", shape.rank()));
    if (!shape.checked_elements()) throw fail("has too many elements");
    return shape;
  }

  Error fail(const std::string& reason) const { return keys_.fail(key_, "at {}: {}", index_, reason); }

 private:
  Json parse(const std::string& text) const {
    return guarded([&] {
      Json json = parse_json(text, keys_.path(), {.max_depth = 4});
      if (!json.is_object()) throw Error(ErrorCode::malformed, "is no JSON object");
      return json;
    });
  }

  const KeyReader& keys_;
  std::string_view key_;
  std::size_t index_;
  Json json_;
};

std::size_t count_of(const KeyReader& keys, std::string_view key) { return keys.has(key) ? keys.texts(key).size() : 0; }

/// Names must be files of one directory: no two the same, and none a folder of another.
class NameCheck {
 public:
  const char* fault(const std::string& name) {
    if (const char* fault = member_name_fault(name)) return fault;
    if (folders_.contains(name)) return "is a folder as well";
    if (!files_.insert(name).second) return "is there twice";
    for (auto slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
      std::string folder = name.substr(0, slash);
      if (files_.contains(folder)) return "lies in a file";
      folders_.insert(std::move(folder));
    }
    return nullptr;
  }

 private:
  std::set<std::string> files_;
  std::set<std::string> folders_;
};

std::vector<Member> read_members(const KeyReader& keys, std::string_view key, NameCheck& names) {
  std::vector<Member> members;
  const std::size_t count = count_of(keys, key);
  for (std::size_t i = 0; i < count; ++i) {
    const ItemReader item(keys, key, i);
    Member member{item.text("name"), item.number("bytes")};
    if (const char* fault = names.fault(member.name)) {
      throw item.fail(fmt::format("the name '{}' {}", printable(excerpt(member.name)), fault));
    }
    members.push_back(std::move(member));
  }
  return members;
}

std::vector<Array> read_arrays(const KeyReader& keys, const std::vector<Member>& files) {
  std::vector<Array> arrays;
  const std::size_t count = count_of(keys, kArrays);
  std::size_t file = 0;
  std::uint64_t end = 0;  // of what is taken of the file
  for (std::size_t i = 0; i < count; ++i) {
    const ItemReader item(keys, kArrays, i);
    Array array{item.text("name"), item.text("element"), item.shape(), 0, item.number("offset"), item.number("bytes")};
    const std::uint64_t in_file = item.number("file");
    if (in_file >= files.size()) throw item.fail(fmt::format("there is no file {}", in_file));
    array.file = static_cast<std::size_t>(in_file);
    if (array.file < file) throw item.fail("is of an earlier file than the array before it");
    if (array.file > file) end = 0;
    file = array.file;
    if (array.offset < end) throw item.fail("begins before the end of the array before it");
    const auto own_end = checked_add(array.offset, array.bytes);
    if (!own_end || *own_end > files[file].bytes) throw item.fail("ends behind the end of its file");
    end = *own_end;
    arrays.push_back(std::move(array));
  }
  return arrays;
}

std::vector<LogicalTensor> read_tensors(const KeyReader& keys, std::size_t arrays) {
  std::vector<LogicalTensor> tensors;
  const std::size_t count = count_of(keys, kTensors);
  for (std::size_t i = 0; i < count; ++i) {
    const ItemReader item(keys, kTensors, i);
    LogicalTensor tensor{item.text("name"), item.text("encoding"), item.shape(), {}, item.digest("values")};
    for (const std::int64_t array : item.numbers("arrays")) {
      if (static_cast<std::uint64_t>(array) >= arrays) throw item.fail(fmt::format("there is no array {}", array));
      tensor.arrays.push_back(static_cast<std::size_t>(array));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

void add_number(Xxh3_128& digest, std::uint64_t number) { digest.update(bytes_of(number)); }

void add_text(Xxh3_128& digest, std::string_view text) {
  add_number(digest, text.size());
  digest.update(bytes_of(text));
}

}  // namespace

const char* member_name_fault(std::string_view name) {
  if (const char* fault = OutputDirectory::name_fault(name)) return fault;
  if (!is_utf8(name)) return "is not UTF-8";
  if (name.find('\\') != std::string_view::npos) return "holds a backslash, which separates folders elsewhere";
  return nullptr;
}

Metadata description_keys(const Description& description) {
  Metadata keys;
  keys.append(std::string(kFormat), description.format);
  keys.append(std::string(kEntry), description.entry);
  append(keys, kFiles, description.files);
  append(keys, kSidecars, description.sidecars);
  append(keys, kArrays, description.arrays);
  append(keys, kTensors, description.tensors);
  return keys;
}

Description read_description(const gguf::Header& header, const std::string& path) {
  const KeyReader keys(header, path);
  Description description;
  description.format = keys.get<std::string>(kFormat);
  description.entry = keys.get<std::string>(kEntry);
  NameCheck names;
  description.files = read_members(keys, kFiles, names);
  description.sidecars = read_members(keys, kSidecars, names);
  description.arrays = read_arrays(keys, description.files);
  description.tensors = read_tensors(keys, description.arrays.size());
  const bool is_listed =
      std::ranges::find(description.files, description.entry, &Member::name) != description.files.end();
  if (!description.entry.empty() && !is_listed) {
    throw keys.fail(kEntry, "names '{}', which is no file here", printable(excerpt(description.entry)));
  }
  return description;
}

Digest128 root_digest(const Metadata& description, const std::vector<Digest128>& part_digests) {
  Xxh3_128 digest;
  for (const std::string_view key : kDescriptionKeys) {
    const MetaValue* value = description.find(key);
    const auto* array = value != nullptr ? std::get_if<MetaArray>(value) : nullptr;
    const auto* texts = array != nullptr ? std::get_if<std::vector<std::string>>(&array->values) : nullptr;
    if (const auto* text = value != nullptr ? std::get_if<std::string>(value) : nullptr) {
      add_number(digest, 1);
      add_text(digest, *text);
    } else {
      add_number(digest, texts != nullptr ? texts->size() : 0);
      if (texts == nullptr) continue;
      for (const std::string& item : *texts) add_text(digest, item);
    }
  }
  add_number(digest, part_digests.size());
  for (const Digest128& part : part_digests) {
    add_number(digest, part.low);
    add_number(digest, part.high);
  }
  return digest.value();
}

}  // namespace regauge::container
