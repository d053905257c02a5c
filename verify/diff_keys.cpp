#include "verify/diff_keys.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/text.h"
#include "ir/metadata.h"
#include "models/architecture.h"

namespace regauge {
namespace {

/// Values by key, in a form that can be compared, whatever their length.
using Keys = std::map<std::string, std::string>;

std::string shown(const std::string& value) { return excerpt(printable(value), 120); }

void flatten(const Json& json, const std::string& prefix, Keys& keys) {
  if (!json.is_object() || json.empty()) {
    keys.emplace(prefix, json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return;
  }
  for (const auto& [key, value] : json.items())
    flatten(value, prefix.empty() ? key : fmt::format("{}.{}", prefix, key), keys);
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  return std::ranges::any_of(prefixes, [text](std::string_view prefix) { return text.starts_with(prefix); });
}

/// About how a file is made or weights are stored; the weights themselves are compared elsewhere.
bool is_storage_key(std::string_view where, std::string_view key) {
  if (where.ends_with("metadata")) {
    return key != "general.architecture" && starts_with_any(key, {"general.", "regauge.", "split.", "GGUF.", "format"});
  }
  return starts_with_any(key, {"quantization_config", "quantization", "torch_dtype", "dtype", "text_config.dtype",
                               "text_config.torch_dtype", "transformers_version", "_name_or_path"});
}

bool is_storage_file(std::string_view name) {
  return name.ends_with(".index.json") || name == "quantize_config.json" || name == "regauge.json" ||
         name.ends_with("adapter_config.json") ||
         !(name.ends_with(".json") || name.ends_with(".jinja") || name.ends_with(".txt"));
}

void compare_maps(const std::string& where, const Keys& first, const Keys& second, std::vector<KeyDiff>& out) {
  std::set<std::string> names;
  for (const auto& entry : first) names.insert(entry.first);
  for (const auto& entry : second) names.insert(entry.first);
  for (const std::string& key : names) {
    const auto a = first.find(key);
    const auto b = second.find(key);
    if (a != first.end() && b != second.end() && a->second == b->second) continue;
    KeyDiff diff{where, key, {}, {}, !is_storage_key(where, key)};
    if (a != first.end()) diff.first = shown(a->second);
    if (b != second.end()) diff.second = shown(b->second);
    out.push_back(std::move(diff));
  }
}

Keys metadata_keys(const Metadata& metadata) {
  Keys keys;
  for (const auto& [key, value] : metadata.entries()) keys.emplace(key, to_string(value));
  return keys;
}

/// Metadata is compared as what it is: its text may leave out the middle of a long array.
void compare_metadata(const std::string& where, const Metadata& first, const Metadata& second,
                      std::vector<KeyDiff>& out) {
  Keys a = metadata_keys(first);
  Keys b = metadata_keys(second);
  for (const auto& [key, value] : first.entries()) {
    const MetaValue* other = second.find(key);
    if (other == nullptr) continue;
    if (value == *other) {
      a.erase(key);
      b.erase(key);
    } else if (a.at(key) == b.at(key)) {
      b.at(key) += " (differs further on)";
    }
  }
  compare_maps(where, a, b, out);
}

bool is_gguf(const OpenedPath& path) { return path.checkpoint->dialect == Dialect::gguf; }

/// What a path is to its model, as a GGUF file says it; a directory is everything at once.
OutputKind kind_of(const OpenedPath& path) {
  if (!is_gguf(path)) return OutputKind::model;
  const auto type = path.checkpoint->metadata.get_string("general.type");
  if (type == "adapter") return OutputKind::adapter;
  const bool clip = path.checkpoint->metadata.get_string("general.architecture") == "clip";
  return type == "mmproj" || clip ? OutputKind::mmproj : OutputKind::model;
}

/// The path that has the keys of one kind: a GGUF file of it, or for lack of one a directory.
const OpenedPath* path_of(std::span<const OpenedPath> paths, OutputKind kind) {
  const auto file =
      std::ranges::find_if(paths, [kind](const OpenedPath& path) { return is_gguf(path) && kind_of(path) == kind; });
  if (file != paths.end()) return &*file;
  const auto directory = std::ranges::find_if(paths, [](const OpenedPath& path) { return !is_gguf(path); });
  return directory == paths.end() ? nullptr : &*directory;
}

/// The keys of a GGUF file made from a directory, or those of the GGUF file that it is.
Metadata keys_as_gguf(const OpenedPath& path, OutputKind kind, int mtp_layers) {
  if (is_gguf(path)) return path.checkpoint->metadata;
  if (path.architecture == nullptr) {
    throw Error(ErrorCode::unsupported,
                "the architecture is not known, so its configuration cannot be put in GGUF keys")
        .at(path.checkpoint->path);
  }
  Findings ignored;
  GgufFacts facts;
  facts.mtp_layers = mtp_layers;
  return path.architecture->gguf_metadata(*path.checkpoint, kind, facts, ignored);
}

/// What the factors are multiplied with, times their rank: of an adapter's own file, or of the configuration of one that
/// lies in a directory.
std::optional<std::string> lora_alpha(const OpenedPath& path) {
  if (is_gguf(path)) {
    const MetaValue* alpha = path.checkpoint->metadata.find("adapter.lora.alpha");
    return alpha == nullptr ? std::nullopt : std::optional(to_string(*alpha));
  }
  for (const Sidecar& sidecar : path.checkpoint->sidecars) {
    if (!sidecar.name.ends_with("adapter_config.json")) continue;
    const auto text = path.checkpoint->sidecar_text(sidecar.name, kMaxTokenizerBytes);
    const Json config = parse_json(*text, sidecar.name);
    const auto alpha = config.find("lora_alpha");
    if (alpha != config.end() && alpha->is_number()) return fmt::format("{}", alpha->get<double>());
  }
  return std::nullopt;
}

/// Two versions of one file beside the weights.
void compare_files(const std::string& name, const Checkpoint& first, const Checkpoint& second,
                   std::vector<KeyDiff>& out) {
  const auto a = first.sidecar_text(name, kMaxTokenizerBytes);
  const auto b = second.sidecar_text(name, kMaxTokenizerBytes);
  if (a == b) return;
  if (name.ends_with(".json")) {
    try {
      const JsonLimits limits{.max_bytes = kMaxTokenizerBytes, .duplicates = JsonDuplicates::keep_last};
      Keys keys_a;
      Keys keys_b;
      flatten(parse_json(*a, name, limits), "", keys_a);
      flatten(parse_json(*b, name, limits), "", keys_b);
      const std::size_t before = out.size();
      compare_maps(name, keys_a, keys_b, out);
      if (is_storage_file(name)) {
        for (std::size_t i = before; i < out.size(); ++i) out[i].counted = false;
      }
      if (out.size() == before) out.push_back({name, "", "the same keys", "spelled otherwise", false});
      return;
    } catch (const Error&) {
      // No JSON whatever its name: then its bytes are what there is to compare.
    }
  }
  out.push_back({name, "", format_bytes(a->size()), format_bytes(b->size()), !is_storage_file(name)});
}

void compare_directories(const Checkpoint& first, const Checkpoint& second, std::vector<KeyDiff>& out) {
  // What another format keeps beside its weights is its own affair.
  const bool same_format = first.array_format() == second.array_format();
  std::set<std::string> names;
  for (const Sidecar& sidecar : first.sidecars) names.insert(sidecar.name);
  for (const Sidecar& sidecar : second.sidecars) names.insert(sidecar.name);
  for (const std::string& name : names) {
    const bool in_first = first.has_sidecar(name);
    const bool in_second = second.has_sidecar(name);
    if (in_first && in_second) {
      compare_files(name, first, second, out);
    } else {
      const bool counted = same_format && !is_storage_file(name);
      out.push_back({name, "", in_first ? std::optional<std::string>("there") : std::nullopt,
                     in_second ? std::optional<std::string>("there") : std::nullopt, counted});
    }
  }
}

/// The stretches of a file that are in no array: header, gaps, padding.
std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps_of(const Checkpoint& checkpoint, std::size_t file) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> arrays;
  for (const StoredArray& array : checkpoint.arrays) {
    if (array.file == file && array.bytes != 0) arrays.emplace_back(array.offset, array.offset + array.bytes);
  }
  std::ranges::sort(arrays);
  arrays.emplace_back(checkpoint.files[file].file->size(), 0);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps;
  std::uint64_t at = 0;
  for (const auto& [begin, end] : arrays) {
    if (begin > at) gaps.emplace_back(at, begin);
    at = std::max(at, end);
  }
  return gaps;
}

/// Where two files first differ outside of their arrays, which lie in the same places; nothing when they do not.
std::optional<std::uint64_t> first_difference(const File& first, const File& second,
                                              const std::vector<std::pair<std::uint64_t, std::uint64_t>>& gaps) {
  constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;
  for (const auto& [begin, end] : gaps) {
    for (std::uint64_t at = begin; at < end; at += kReadBytes) {
      const std::uint64_t count = std::min(kReadBytes, end - at);
      const auto a = first.read_range(at, count);
      const auto b = second.read_range(at, count);
      const auto different = std::ranges::mismatch(a, b);
      if (different.in1 != a.end()) return at + static_cast<std::uint64_t>(different.in1 - a.begin());
    }
  }
  return std::nullopt;
}

/// Files of one name and size: what is in no array may differ and mean the same.
void compare_skeletons(const Checkpoint& first, const Checkpoint& second, std::vector<KeyDiff>& out) {
  for (std::size_t i = 0; i < first.files.size(); ++i) {
    const auto other = std::ranges::find(second.files, first.files[i].name, &SourceFile::name);
    const bool alone = first.files.size() == 1 && second.files.size() == 1;
    if (other == second.files.end() && !alone) continue;
    const std::size_t j = alone ? 0 : static_cast<std::size_t>(other - second.files.begin());
    const File& a = *first.files[i].file;
    const File& b = *second.files[j].file;
    const auto gaps = gaps_of(first, i);
    if (a.size() != b.size() || gaps != gaps_of(second, j)) continue;
    const auto at = first_difference(a, b, gaps);
    if (!at) continue;
    const std::string where = fmt::format("byte {}", *at);
    out.push_back({first.files[i].name, "header or gaps", where, where, false});
  }
}

/// One file's keys against the other side's. What cannot be told is appended to `unread`.
void compare_kind(const OpenedPath& first, const OpenedPath& second, OutputKind kind, std::pair<int, int> mtp_layers,
                  std::vector<KeyDiff>& out, std::vector<std::string>& unread) {
  const std::string where = kind == OutputKind::model ? "metadata" : fmt::format("{} metadata", name(kind));
  try {
    compare_metadata(where, keys_as_gguf(first, kind, mtp_layers.first), keys_as_gguf(second, kind, mtp_layers.second),
                     out);
  } catch (const Error& error) {
    unread.push_back(fmt::format("{}: {}", where, error.what()));
  }
}

bool has_vision(const OpenedPath& path) {
  return kind_of(path) == OutputKind::mmproj || (path.architecture != nullptr && path.architecture->has_vision());
}

bool has_draft(std::span<const OpenedPath> paths) {
  return std::ranges::any_of(paths, [](const OpenedPath& path) { return path.only == Component::mtp; });
}

/// Where one side has its MTP blocks in a file of their own, the files of the models count blocks differently and mean
/// the same: the blocks themselves are compared as tensors.
void forgive_block_counts(std::size_t begin, std::vector<KeyDiff>& out) {
  for (std::size_t i = begin; i < out.size(); ++i) {
    const std::string& key = out[i].key;
    if (key.ends_with(".block_count") || key.ends_with(".nextn_predict_layers") ||
        key.ends_with(".attention.recurrent_layers"))
      out[i].counted = false;
  }
}

void compare_adapters(const OpenedPath& first, const OpenedPath& second, std::vector<KeyDiff>& out,
                      std::vector<std::string>& unread) {
  if (is_gguf(first) && is_gguf(second)) {
    compare_kind(first, second, OutputKind::adapter, {}, out, unread);
    return;
  }
  try {
    const auto a = lora_alpha(first);
    const auto b = lora_alpha(second);
    if (a != b && (a || b)) out.push_back({"adapter", "lora_alpha", a, b, true});
  } catch (const Error& error) {
    unread.push_back(fmt::format("adapter: {}", error.what()));
  }
}

}  // namespace

std::vector<KeyDiff> diff_keys(std::span<const OpenedPath> first, std::span<const OpenedPath> second,
                               int first_mtp_layers, int second_mtp_layers, std::vector<std::string>& unread) {
  std::vector<KeyDiff> out;
  compare_skeletons(*first.front().checkpoint, *second.front().checkpoint, out);
  const auto pair_of = [&](OutputKind kind) { return std::pair(path_of(first, kind), path_of(second, kind)); };
  const auto [a, b] = pair_of(OutputKind::model);
  if (a != nullptr && b != nullptr) {
    if (!is_gguf(*a) && !is_gguf(*b)) {
      compare_directories(*a->checkpoint, *b->checkpoint, out);
    } else {
      const std::size_t before = out.size();
      compare_kind(*a, *b, OutputKind::model, {first_mtp_layers, second_mtp_layers}, out, unread);
      if (has_draft(first) != has_draft(second)) forgive_block_counts(before, out);
    }
  }
  const auto [tower_a, tower_b] = pair_of(OutputKind::mmproj);
  const bool towers = tower_a != nullptr && tower_b != nullptr && has_vision(*tower_a) && has_vision(*tower_b);
  if (towers && (is_gguf(*tower_a) || is_gguf(*tower_b)))
    compare_kind(*tower_a, *tower_b, OutputKind::mmproj, {}, out, unread);
  const auto [adapter_a, adapter_b] = pair_of(OutputKind::adapter);
  if (adapter_a != nullptr && adapter_b != nullptr && (is_gguf(*adapter_a) || is_gguf(*adapter_b)))
    compare_adapters(*adapter_a, *adapter_b, out, unread);
  return out;
}

}  // namespace regauge
