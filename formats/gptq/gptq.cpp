#include "formats/gptq/gptq.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "formats/gptq/config.h"
#include "formats/gptq/config_writer.h"
#include "formats/gptq/module.h"
#include "formats/gptq/zeros.h"
#include "formats/safetensors/directory_writer.h"
#include "formats/safetensors/low_rank.h"
#include "formats/safetensors/safetensors.h"
#include "formats/safetensors/writer.h"

namespace regauge {
namespace {

using namespace gptq;

constexpr std::string_view kWeight = ".weight";

Bid bid(const Source& source) {
  const SafetensorsGlance seen = glance(source);
  if (!seen.is_safetensors) return {};
  std::optional<Section> section;
  try {
    section = find_section(*source.folder, seen.config);
  } catch (const Error&) {
    section.reset();  // whoever opens the checkpoint says what is wrong with the file
  }
  if (section && is_foreign(section->json)) return {};
  const bool modules = has_modules(seen.names);
  if (section && is_ours(section->json) && (modules || source.is_directory)) {
    return {90, "the quantization config says GPTQ"};
  }
  if (modules) return {80, "has arrays named qweight or B"};
  return {};
}

std::string_view module_of(std::string_view tensor) {
  return tensor.ends_with(kWeight) ? tensor.substr(0, tensor.size() - kWeight.size()) : tensor;
}

/// GPTQModel quantizes embeddings along the vocabulary, so that the stored matrix is the transpose of the weight: rows would
/// be hidden units. Source: ModelCloud/GPTQModel gptqmodel/nn_modules/qlinear/torch_embedding.py.
bool is_embedding(std::string_view module) {
  constexpr std::array<std::string_view, 4> kNames{"embed_tokens", "wte", "word_embeddings", "tok_embeddings"};
  const auto dot = module.rfind('.');
  const std::string_view leaf = dot == std::string_view::npos ? module : module.substr(dot + 1);
  return std::ranges::find(kNames, leaf) != kNames.end();
}

void report_unused_rules(const Checkpoint& checkpoint, const Config& config,
                         const std::set<const DynamicRule*>& used_by_module, MatchBudget& budget, FindingTally& tally) {
  std::set<const DynamicRule*> used = used_by_module;
  // A rule that excludes is of use when it names weights that are dense.
  for (const Tensor& tensor : checkpoint.tensors) {
    if (used.size() == config.rules.size()) return;
    if (!tensor.name.ends_with(kWeight) || is_quantized(tensor.encoding)) continue;
    const DynamicRule* rule = config.rule_for(module_of(tensor.name), budget);
    if (rule != nullptr && rule->excludes) used.insert(rule);
  }
  for (const DynamicRule& rule : config.rules) {
    if (!used.contains(&rule)) {
      tally.add(Severity::warning, "gptq-rule-unused",
                rule.excludes ? "a rule of 'dynamic' excludes nothing that is there"
                              : "a rule of 'dynamic' matches no quantized module",
                rule.key);
    }
  }
}

/// Layouts of other quantizers that may lie in the same files. Source: caiovicentino/polarengine-vllm, packing.py and
/// loader.py.
void report_foreign_arrays(const Checkpoint& checkpoint, FindingTally& tally) {
  for (const StoredArray& array : checkpoint.arrays) {
    const std::string_view name = array.name;
    if (name.ends_with(".ct_scaled") || name.ends_with(".weight__packed") || name.ends_with(".weight__norms")) {
      tally.add(Severity::warning, "hlwq-layout",
                "arrays of the HLWQ (PolarQuant) layout are carried as they are, not decoded", name);
    }
  }
}

struct Resolved {
  const Module* module = nullptr;
  Geometry geometry;
  Settings settings;
};

class Reader {
 public:
  Reader(Checkpoint checkpoint, Config config, ZerosLabel zeros)
      : checkpoint_(std::move(checkpoint)), config_(std::move(config)), zeros_(zeros) {}

  Checkpoint read(const Source& source, const OpenOptions& options) {
    modules_ = collect_modules(checkpoint_);
    resolve_all();
    assemble();
    report_unused_rules(checkpoint_, config_, used_rules_, budget_, tally_);
    report_foreign_arrays(checkpoint_, tally_);
    report_config();
    tally_.move_to(checkpoint_.findings, {});
    safetensors::attach_low_rank(checkpoint_, source, options);
    checkpoint_.format = kGptqFormat.name;
    checkpoint_.format_version = version();
    checkpoint_.quantization = config_.section;
    return std::move(checkpoint_);
  }

 private:
  void resolve_all() {
    for (const Module& module : modules_) {
      if (is_embedding(module.name)) {
        tally_.add(Severity::warning, "gptq-embedding",
                   "quantized embeddings are stored across the vocabulary; their arrays are carried, not decoded",
                   module.name);
        continue;
      }
      const DynamicRule* rule = config_.rule_for(module.name, budget_);
      if (rule != nullptr) used_rules_.insert(rule);
      if (rule != nullptr && rule->excludes) {
        tally_.add(Severity::warning, "gptq-excluded-quantized",
                   "a rule of 'dynamic' excludes a module that is quantized", module.name);
      }
      Resolved resolved{&module, {}, config_.settings_for(rule)};
      resolved.geometry = module.is_marlin()
                              ? resolve_marlin(checkpoint_, module, resolved.settings, tally_)
                              : resolve_geometry(checkpoint_, module, config_, resolved.settings, tally_);
      resolved_.push_back(resolved);
    }
  }

  /// Replaces the dense tensors of the modules' arrays by the modules' own, each at the place of its first array.
  void assemble() {
    std::vector<ZerosOf> zeros;
    for (const Resolved& resolved : resolved_) {
      if (resolved.module->qzeros)
        zeros.push_back({resolved.module, resolved.geometry, resolved.settings.sym.value_or(true)});
    }
    const ZeroConventions conventions = choose_conventions(checkpoint_, zeros, config_, zeros_, checkpoint_.findings);
    v1_ = !zeros.empty() && conventions[zeros.front().geometry.layout.bits] != layouts::ZeroConvention::v2;

    std::vector<Tensor> tensors;
    std::vector<bool> taken(checkpoint_.arrays.size());
    std::vector<const Resolved*> starts(checkpoint_.arrays.size());
    for (const Resolved& resolved : resolved_) starts[resolved.module->first] = &resolved;
    std::vector<Tensor> made(checkpoint_.arrays.size());
    for (const Resolved& resolved : resolved_) {
      const Module& module = *resolved.module;
      Tensor tensor = module.is_marlin() ? make_marlin_tensor(checkpoint_, module, resolved.geometry)
                                         : make_tensor(checkpoint_, module, resolved.geometry, resolved.settings,
                                                       conventions[resolved.geometry.layout.bits]);
      for (const std::size_t array : tensor.arrays) taken[array] = true;
      made[module.first] = std::move(tensor);
    }
    for (std::size_t i = 0; i < checkpoint_.arrays.size(); ++i) {
      if (starts[i] != nullptr) {
        tensors.push_back(std::move(made[i]));
      } else if (!taken[i]) {
        tensors.push_back(std::move(checkpoint_.tensors[i]));
      }
    }
    checkpoint_.tensors = std::move(tensors);
  }

  void report_config() {
    if (!config_.section) {
      tally_.add(Severity::warning, "gptq-config-missing",
                 "there is no quantization config: widths and groups are those of the shapes, zero points as the data "
                 "say or v1");
    } else if (resolved_.empty()) {
      tally_.add(Severity::warning, "gptq-nothing-quantized", "the config says GPTQ, but no module is quantized");
    }
    const bool head =
        std::ranges::any_of(modules_, [](const Module& module) { return module.name.ends_with("lm_head"); });
    if (config_.lm_head && !head) {
      tally_.add(Severity::warning, "gptq-head-dense", "the config says that lm_head is quantized, but it is not");
    }
  }

  std::string version() const {
    const bool marlin = !modules_.empty() && std::ranges::all_of(modules_, &Module::is_marlin);
    if (marlin) return "marlin";
    if (config_.format == WordFormat::planar) return "planar";
    return v1_ ? "v1" : "v2";
  }

  Checkpoint checkpoint_;
  Config config_;
  ZerosLabel zeros_;
  std::vector<Module> modules_;
  std::vector<Resolved> resolved_;
  std::set<const DynamicRule*> used_rules_;
  MatchBudget budget_;
  FindingTally tally_;
  bool v1_ = false;
};

/// GPTQModel lays the arrays out in the order of its modules; readers go by the offsets, so ours are in the order of the
/// reference serialiser, every one aligned.
std::unique_ptr<Writer> create(const std::filesystem::path& target, const WriteOptions& options) {
  return safetensors::create_directory_writer(target, options);
}

WordFormat word_format(std::string_view layout) {
  if (layout == "v2") return WordFormat::v2;
  if (layout == "planar") return WordFormat::planar;
  return layout == "marlin" ? WordFormat::marlin : WordFormat::v1;
}

void configure(Json& config, std::span<const PackedModule> modules, std::string_view layout,
               std::vector<CarriedFile>& files) {
  std::vector<gptq::LinearModule> linear;
  bool any = false;
  for (const PackedModule& module : modules) {
    any = any || module.is_quantized;
    gptq::LinearModule& entry = linear.emplace_back();
    entry.name = module.name;
    if (module.is_quantized)
      entry.settings = gptq::ModuleSettings{module.bits, module.group_size, module.sym, module.act_order};
  }
  // What kernels hold has no loader, and must not pass for a checkpoint of one.
  if (!any || layout == "marlin-runtime") return;
  const Json section = gptq::make_config(linear, word_format(layout), "regauge:" REGAUGE_VERSION);
  config = gptq::with_quantization(config, section);
  files.push_back({"quantize_config.json", section.dump(2)});
}

Json extend(const Json& section, std::span<const PackedModule> existing, std::span<const PackedModule> added) {
  std::vector<std::string> names;
  for (const PackedModule& module : existing) names.push_back(module.name);
  std::vector<gptq::LinearModule> linear;
  for (const PackedModule& module : added) {
    gptq::LinearModule& entry = linear.emplace_back();
    entry.name = module.name;
    if (module.is_quantized)
      entry.settings = gptq::ModuleSettings{module.bits, module.group_size, module.sym, module.act_order};
  }
  return gptq::with_modules(section, names, linear);
}

}  // namespace

Checkpoint open_gptq(const Source& source, const OpenOptions& options) {
  Checkpoint checkpoint = open_safetensors(source, options);
  const auto section = find_section(*source.folder, checkpoint.config);
  Config config;
  // AutoGPTQ's quantize_config.json names no method, so whatever is not another's is taken for GPTQ's.
  if (section && !is_foreign(section->json)) config = parse_config(*section, checkpoint.findings);
  return Reader(std::move(checkpoint), std::move(config), options.zeros).read(source, options);
}

const Format kGptqFormat = {
    .name = "gptq",
    .summary = "GPTQ and serialised Marlin checkpoints, with EoRA factors",
    .bid = bid,
    .open = open_gptq,
    .can_hold = safetensors::can_hold,
    .create = create,
    .packing = Packing::gptq,
    .configure = configure,
    .extend = extend,
};

}  // namespace regauge
