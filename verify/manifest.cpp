#include "verify/manifest.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/render.h"
#include "base/text.h"

namespace regauge {
namespace {

constexpr std::string_view kSchema = "regauge.checksum/1";
constexpr std::string_view kWholeFile = "sha256-file";
using What = ManifestEntry::What;

Json digests_json(const DigestTexts& digests) {
  Json json = Json::object();
  for (const auto& [algorithm, digest] : digests) json[std::string(name(algorithm))] = digest;
  return json;
}

Json values_json(const ValueDigests& values) {
  Json json;
  json["model"] = hex(values.model);
  json["roots"] = Json::object();
  for (const auto& [name, digest] : values.roots) json["roots"][name] = hex(digest);
  json["tensors"] = Json::array();
  for (const auto& [name, digest] : values.tensors) {
    Json one;
    one["name"] = json_text(name);
    one["digest"] = hex(digest);
    json["tensors"].push_back(std::move(one));
  }
  return json;
}

Json sums_json(const StoredSums& sums) {
  Json json;
  json["path"] = json_text(sums.path);
  json["format"] = sums.format;
  json["files"] = Json::array();
  for (const FileSum& file : sums.files) {
    Json one;
    one["name"] = json_text(file.name);
    one["bytes"] = file.bytes;
    if (!file.arrays.empty()) one["arrays"] = digests_json(file.arrays);
    if (!file.sha256.empty()) one["sha256"] = file.sha256;
    json["files"].push_back(std::move(one));
  }
  json["arrays"] = Json::array();
  for (const ArraySum& array : sums.arrays) {
    Json one;
    one["name"] = json_text(array.name);
    one["file"] = json_text(array.file);
    one["dtype"] = json_text(array.element);
    one["shape"] = array.shape.dims;
    one["bytes"] = array.bytes;
    one["digests"] = digests_json(array.digests);
    json["arrays"].push_back(std::move(one));
  }
  return json;
}

/// Reading a manifest in JSON.
class JsonManifest {
 public:
  JsonManifest(const Json& json, std::string_view source) : json_(json), source_(source) {}

  Manifest read() {
    if (get_string(json_, "schema") != kSchema) throw fault("its schema is not 'regauge.checksum/1'");
    if (const Json* paths = get_array(json_, "paths")) {
      for (const Json& path : *paths) {
        path_ = static_cast<std::size_t>(&path - &paths->front());
        if (const Json* files = get_array(path, "files")) {
          for (const Json& file : *files) read_file(file);
        }
        if (const Json* arrays = get_array(path, "arrays")) {
          for (const Json& array : *arrays) read_array(array);
        }
      }
    }
    if (const Json* values = get_object(json_, "values")) read_values(*values);
    return std::move(manifest_);
  }

 private:
  Error fault(std::string_view what) const { return Error(ErrorCode::malformed, "{}", what).at(source_); }

  std::string text(const Json& object, std::string_view key) const {
    auto value = get_string(object, key);
    if (!value) throw Error(ErrorCode::malformed, "an entry has no '{}'", key).at(source_);
    return *std::move(value);
  }

  Digest128 digest(const std::string& digits) const {
    const auto value = digest128_from_hex(digits);
    if (!value) throw Error(ErrorCode::malformed, "'{}' is no digest", excerpt(printable(digits))).at(source_);
    return *value;
  }

  void read_digests(const Json& object, std::string_view key, const ManifestEntry& like) {
    const Json* digests = get_object(object, key);
    if (digests == nullptr) return;
    for (const auto& [name, value] : digests->items()) {
      const auto algorithm = digest_algorithm_from_name(name);
      if (!algorithm || !value.is_string()) continue;
      ManifestEntry entry = like;
      entry.algorithm = *algorithm;
      entry.digest = value.get<std::string>();
      manifest_.entries.push_back(std::move(entry));
    }
  }

  void read_file(const Json& file) {
    ManifestEntry entry;
    entry.what = What::arrays_of_file;
    entry.path = path_;
    entry.file = text(file, "name");
    read_digests(file, "arrays", entry);
    if (auto whole = get_string(file, "sha256")) {
      entry.what = What::whole_file;
      entry.algorithm = DigestAlgorithm::sha256;
      entry.digest = *std::move(whole);
      manifest_.entries.push_back(std::move(entry));
    }
  }

  void read_array(const Json& array) {
    ManifestEntry entry;
    entry.path = path_;
    entry.file = text(array, "file");
    entry.array = text(array, "name");
    entry.element = text(array, "dtype");
    const Json* shape = get_array(array, "shape");
    if (shape == nullptr) throw fault("an array has no 'shape'");
    std::vector<std::int64_t> dims;
    for (const Json& dim : *shape) {
      if (!dim.is_number_integer()) throw fault("a shape is no list of whole numbers");
      dims.push_back(dim.get<std::int64_t>());
    }
    entry.shape = Shape(std::move(dims));
    read_digests(array, "digests", entry);
  }

  void read_values(const Json& values) {
    ValueDigests read;
    read.model = digest(text(values, "model"));
    const Json* roots = get_object(values, "roots");
    const Json* tensors = get_array(values, "tensors");
    if (roots == nullptr || tensors == nullptr) throw fault("its value digests have no roots or no tensors");
    for (const auto& [name, value] : roots->items())
      read.roots.emplace(name, digest(value.is_string() ? value.get<std::string>() : ""));
    for (const Json& tensor : *tensors) read.tensors.emplace(text(tensor, "name"), digest(text(tensor, "digest")));
    manifest_.values = std::move(read);
  }

  const Json& json_;
  std::string_view source_;
  std::size_t path_ = 0;
  Manifest manifest_;
};

/// The next run of characters that are no blanks, taken off `line` together with the blanks behind it.
std::string_view take_word(std::string_view& line) {
  constexpr std::string_view kBlanks = " \t";
  const std::size_t end = std::min(line.find_first_of(kBlanks), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks, end), line.size()));
  return word;
}

Manifest parse_lines(std::string_view text) {
  Manifest manifest;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::string_view hash = take_word(line);
    const std::string_view digest = take_word(line);
    const auto algorithm = hash == kWholeFile ? DigestAlgorithm::sha256 : digest_algorithm_from_name(hash);
    if (!algorithm || line.empty()) continue;
    ManifestEntry entry;
    entry.what = hash == kWholeFile ? What::whole_file : What::array;
    entry.algorithm = *algorithm;
    entry.file = line;
    entry.digest = digest;
    entry.whole_name = true;
    manifest.entries.push_back(std::move(entry));
  }
  return manifest;
}

Error no_digests(std::string_view source) {
  return Error(ErrorCode::malformed, "no manifest: neither JSON of regauge nor lines of llama-gguf-hash").at(source);
}

}  // namespace

bool Manifest::has_stored() const { return algorithm().has_value(); }

bool Manifest::has_whole_files() const {
  return std::ranges::any_of(entries, [](const ManifestEntry& entry) { return entry.what == What::whole_file; });
}

std::optional<DigestAlgorithm> Manifest::algorithm() const {
  for (const DigestAlgorithm algorithm : {DigestAlgorithm::sha256, DigestAlgorithm::xxh3_128, DigestAlgorithm::sha1,
                                          DigestAlgorithm::xxh64, DigestAlgorithm::uuid}) {
    if (std::ranges::any_of(entries, [algorithm](const ManifestEntry& entry) {
          return entry.what != What::whole_file && entry.algorithm == algorithm;
        })) {
      return algorithm;
    }
  }
  return std::nullopt;
}

Json checksum_to_json(std::span<const StoredSums> sums, const ValueDigests* values) {
  Json json;
  json["schema"] = kSchema;
  json["paths"] = Json::array();
  for (const StoredSums& one : sums) json["paths"].push_back(sums_json(one));
  if (values != nullptr) json["values"] = values_json(*values);
  return json;
}

Manifest parse_manifest(std::string_view text, std::string_view source) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) throw no_digests(source);
  Manifest manifest = text[first] == '{' ? JsonManifest(parse_json(text, source), source).read() : parse_lines(text);
  if (manifest.entries.empty() && !manifest.values) throw no_digests(source);
  return manifest;
}

}  // namespace regauge
