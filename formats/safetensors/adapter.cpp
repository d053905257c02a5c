#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/pattern.h"
#include "base/text.h"
#include "formats/safetensors/low_rank.h"
#include "formats/safetensors/safetensors.h"

namespace regauge::safetensors {
namespace {

namespace fs = std::filesystem;

// Sources: huggingface/peft src/peft/utils/constants.py; ModelCloud/GPTQModel gptqmodel/adapter/adapter.py, EORA_DEFAULT_FILE.
constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";
constexpr const char* kOriginalFile = "eora.safetensors";

/// An adapter's files in their folder, and the name that the weights get in the checkpoint.
struct Adapter {
  FolderPtr folder;
  fs::path weights;
  std::string name;
  std::optional<fs::path> config;
};

/// The adapter that the user names: a directory, or the file itself.
Adapter named_adapter(const fs::path& path) {
  std::error_code ignored;
  const bool directory = fs::is_directory(path, ignored);
  Adapter adapter;
  adapter.folder = disk_folder(directory ? path : path.parent_path());
  if (!directory) {
    adapter.weights = path.filename();
  } else {
    for (const char* file : {kWeightsFile, kOriginalFile}) {
      if (adapter.weights.empty() && adapter.folder->has_file(file)) adapter.weights = file;
    }
    if (adapter.weights.empty()) {
      throw Error(ErrorCode::not_found, "is no adapter: it holds neither {} nor {}", kWeightsFile, kOriginalFile)
          .at(path.native());
    }
  }
  // Kept apart from the model's own files, whatever its folder is called.
  adapter.name = (fs::path("adapter") / adapter.weights.filename()).native();
  if (adapter.folder->has_file(kConfigFile)) adapter.config = kConfigFile;
  return adapter;
}

/// Adapters inside the directory, in the order of the listing. Only what is a sidecar counts: shards are the model's, and
/// links that lead out of the checkpoint are none of it.
std::vector<Adapter> adapters_inside(const Checkpoint& checkpoint) {
  std::set<std::string_view> names;
  for (const Sidecar& sidecar : checkpoint.sidecars) names.insert(sidecar.name);
  std::vector<Adapter> adapters;
  for (const Sidecar& sidecar : checkpoint.sidecars) {
    const fs::path path(sidecar.name);
    if (path.filename() != kWeightsFile && path.filename() != kOriginalFile) continue;
    const std::string config = (path.parent_path() / kConfigFile).native();
    const bool has_config = names.contains(config);
    if (path.filename() == kWeightsFile && !has_config) continue;
    Adapter adapter{checkpoint.folder, path, sidecar.name, std::nullopt};
    if (has_config) adapter.config = config;
    adapters.push_back(std::move(adapter));
  }
  return adapters;
}

/// What adapter_config.json says that matters for plain factors.
struct AdapterConfig {
  std::string path;
  std::optional<std::int64_t> rank;
  std::optional<double> alpha;
  bool rslora = false;
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
};

AdapterConfig read_config(const Folder& folder, const fs::path& path) {
  AdapterConfig config;
  config.path = folder.path_of(path);
  const Json json =
      parse_json(folder.read_text(path, kMaxConfigBytes), config.path, {.duplicates = JsonDuplicates::keep_last});
  if (!json.is_object()) throw Error(ErrorCode::malformed, "is no JSON object").at(config.path);
  try {
    if (get_bool(json, "use_dora").value_or(false)) {
      throw Error(ErrorCode::unsupported, "DoRA adapters are no plain product of two factors");
    }
    config.rank = get_int(json, "r");
    config.alpha = get_double(json, "lora_alpha");
    config.rslora = get_bool(json, "use_rslora").value_or(false);
    if (const Json* patterns = get_object(json, "rank_pattern")) {
      for (const auto& [key, rank] : patterns->items()) {
        if (!rank.is_number_integer())
          throw Error(ErrorCode::malformed, "a rank is no whole number").tensor(excerpt(key));
        config.rank_pattern.emplace_back(key, rank.get<std::int64_t>());
      }
    }
    if (const Json* patterns = get_object(json, "alpha_pattern")) {
      for (const auto& [key, alpha] : patterns->items()) {
        if (!alpha.is_number()) throw Error(ErrorCode::malformed, "an alpha is no number").tensor(excerpt(key));
        config.alpha_pattern.emplace_back(key, alpha.get<double>());
      }
    }
  } catch (Error& error) {
    throw std::move(error.at(config.path));
  }
  const auto empty = std::ranges::find_if(config.rank_pattern, [](const auto& entry) { return entry.second < 1; });
  if ((config.rank && *config.rank < 1) || empty != config.rank_pattern.end()) {
    throw Error(ErrorCode::malformed, "an adapter of rank {} corrects nothing",
                empty != config.rank_pattern.end() ? empty->second : *config.rank)
        .at(config.path);
  }
  return config;
}

/// The value that the config announces for a module. GPTQModel takes an entry that equals the module's name, ends in it or
/// matches it from the start, all in lower case. Source: ModelCloud/GPTQModel gptqmodel/adapter/adapter.py.
template <typename T>
std::optional<T> announced(const std::vector<std::pair<std::string, T>>& entries, const std::vector<Pattern>& patterns,
                           const std::optional<T>& usual, std::string_view module, MatchBudget& budget) {
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const std::string& key = patterns[i].text();
    if (key == module || key.ends_with(module) || patterns[i].matches(module, budget)) return entries[i].second;
  }
  return usual;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

/// Holds the config against the factors: a rank that is another, a scale that PEFT would apply and EoRA does not.
void check_config(const AdapterConfig& config, std::span<const StoredArray> arrays, FindingTally& tally) {
  constexpr std::string_view kPrefix = "base_model.model.";
  constexpr std::string_view kSuffix = ".lora_a.weight";
  std::vector<Pattern> patterns;
  std::vector<Pattern> alphas;
  MatchBudget budget;
  try {
    for (const auto& [key, rank] : config.rank_pattern) patterns.emplace_back(lower(key));
    for (const auto& [key, alpha] : config.alpha_pattern) alphas.emplace_back(lower(key));
    for (const StoredArray& array : arrays) {
      const std::string name = lower(array.name);
      if (!name.ends_with(kSuffix) || array.shape.rank() != 2) continue;
      const std::size_t begin = name.starts_with(kPrefix) ? kPrefix.size() : 0;
      const std::string module = name.substr(begin, name.size() - kSuffix.size() - begin);
      const auto expected = announced(config.rank_pattern, patterns, config.rank, module, budget);
      // PEFT's A is [r, K]; one that lies the other way round is known by the rank that is announced.
      const bool turned = expected && *expected != array.shape.dims[0] && *expected == array.shape.dims[1];
      const std::int64_t rank = array.shape.dims[turned ? 1 : 0];
      if (expected && *expected != rank) {
        tally.add(Severity::warning, "adapter-rank-mismatch",
                  "adapter_config.json announces another rank than the factors have", module);
      }
      // PEFT multiplies by alpha / r of the module (alpha / sqrt(r) with use_rslora); GPTQModel's EoRA multiplies by nothing
      // and writes alpha = r of the whole. Source: huggingface/peft src/peft/tuners/lora/layer.py, update_layer.
      const double divisor = config.rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
      const auto alpha = announced(config.alpha_pattern, alphas, config.alpha, module, budget);
      if (alpha && *alpha != divisor) {
        tally.add(Severity::warning, "adapter-scale",
                  fmt::format("EoRA factors are added as they are, but a PEFT loader would multiply them by {:g}",
                              *alpha / divisor),
                  module);
      }
    }
  } catch (Error& error) {
    throw std::move(error.at(config.path));
  }
}

void append(Checkpoint& checkpoint, Adapter adapter) {
  Checkpoint factors = open_safetensors(probe(adapter.folder, adapter.weights));
  const std::size_t first_file = checkpoint.files.size();
  const std::size_t first_array = checkpoint.arrays.size();
  for (SourceFile& file : factors.files) {
    file.name = adapter.name;
    checkpoint.files.push_back(std::move(file));
  }
  FindingTally tally;
  if (adapter.config) check_config(read_config(*adapter.folder, *adapter.config), factors.arrays, tally);
  for (StoredArray& array : factors.arrays) {
    array.file += first_file;
    checkpoint.arrays.push_back(std::move(array));
  }
  checkpoint.check_array_names();
  for (Tensor& tensor : factors.tensors) {
    for (std::size_t& array : tensor.arrays) array += first_array;
    checkpoint.tensors.push_back(std::move(tensor));
  }
  for (Finding& finding : factors.findings) {
    if (finding.file.empty()) finding.file = adapter.name;
    checkpoint.findings.push_back(std::move(finding));
  }
  tally.move_to(checkpoint.findings, adapter.name);
  std::erase_if(checkpoint.sidecars, [&](const Sidecar& sidecar) { return sidecar.name == adapter.name; });
}

}  // namespace

void append_adapter(Checkpoint& checkpoint, const Source& source, const OpenOptions& options) {
  if (options.adapter) return append(checkpoint, named_adapter(*options.adapter));
  if (!source.is_directory || !options.find_adapter) return;
  auto adapters = adapters_inside(checkpoint);
  if (adapters.size() == 1) return append(checkpoint, std::move(adapters.front()));
  if (adapters.size() > 1) {
    checkpoint.findings.push_back(
        {Severity::warning,
         "adapter-ambiguous",
         fmt::format("{} adapters lie inside and none is used: name one, such as '{}'", adapters.size(),
                     excerpt(fs::path(adapters.front().name).parent_path().native())),
         {},
         {}});
  }
}

}  // namespace regauge::safetensors
