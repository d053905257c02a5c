#include "convert/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "convert/choose.h"
#include "convert/directory_files.h"
#include "convert/gguf_keys.h"
#include "convert/memory.h"
#include "convert/recipe/assign.h"
#include "convert/refusal.h"
#include "convert/route/reencode_dense.h"
#include "convert/workers.h"
#include "models/original_values.h"
#include "models/permutations.h"

namespace regauge {
namespace {

Dialect dialect_of(const Format& format) {
  if (format.name == "gguf") return Dialect::gguf;
  return format.packing == Packing::mlx ? Dialect::mlx : Dialect::hf;
}

/// MTP layers whose tensors are there.
int count_mtp_layers(std::span<const OpenedPath> sources) {
  int layers = 0;
  for (const OpenedPath& path : sources) {
    if (path.architecture == nullptr) continue;
    for (const Tensor& tensor : path.checkpoint->tensors) {
      const auto assembly = path.architecture->parse(path.checkpoint->dialect, tensor.name, tensor.shape);
      if (!assembly) continue;
      for (const Piece& piece : assembly->pieces) {
        if (piece.slot.component == Component::mtp) layers = std::max(layers, piece.slot.layer + 1);
      }
    }
  }
  return layers;
}

void plan_steps(PlannedOutput& output, const Format& format, const ConvertOptions& options,
                std::span<const Decision> decisions, std::vector<std::string>& offenders) {
  std::vector<std::optional<std::variant<Step, Offender>>> choices(output.targets.size());
  Workers(planning_threads(options)).for_each(choices.size(), [&](std::size_t i, std::size_t) {
    choices[i] = choose_route(output.targets[i], format, options, decisions[i]);
    auto* step = std::get_if<Step>(&*choices[i]);
    if (step != nullptr && output.targets[i].is_transposed) transpose_step(output.targets[i], *step);
  });
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (auto* step = std::get_if<Step>(&*choices[i])) {
      output.steps.push_back(std::move(*step));
    } else {
      offenders.push_back(output.targets[i].name + ": " + std::get<Offender>(*choices[i]).reason);
    }
  }
}

void order_as_llama_does(PlannedOutput& output) {
  std::vector<std::string_view> names;
  for (const Target& target : output.targets) names.emplace_back(target.name);
  std::vector<Target> ordered;
  for (const std::size_t i : llama_order(names)) ordered.push_back(std::move(output.targets[i]));
  output.targets = std::move(ordered);
}

/// Layers, heads or experts beyond which a key is nonsense.
constexpr std::uint64_t kMostCounted = 1 << 20;

/// What llama-quantize's rules ask of a model.
MixtureModel mixture_model(const OpenedPath& source, const Adaptation& adapted, const ConvertOptions& options) {
  MixtureModel model;
  model.importance = options.importance != nullptr;
  const Metadata& keys = source.checkpoint->metadata;
  if (const auto architecture = keys.get_string("general.architecture");
      source.checkpoint->dialect == Dialect::gguf && architecture) {
    // Models whose layers differ have lists here, of which llama-quantize's rules take no heed either.
    const auto count = [&](std::string_view name) -> std::int64_t {
      const std::string key = fmt::format("{}.{}", *architecture, name);
      const MetaValue* value = keys.find(key);
      if (value == nullptr || std::holds_alternative<MetaArray>(*value)) return 0;
      return static_cast<std::int64_t>(std::min<std::uint64_t>(keys.get_uint(key).value_or(0), kMostCounted));
    };
    return {count("block_count"), count("attention.head_count"), count("attention.head_count_kv"),
            count("expert_count"), model.importance};
  }
  if (source.architecture == nullptr) return model;
  const HeadCounts counts = source.architecture->heads();
  return {source.architecture->layers() + adapted.mtp_layers, counts.query, counts.key_value, counts.experts,
          model.importance};
}

/// Says once that values which have been rounded to codes before are rounded to others.
void note_requantized(const Plan& plan, Findings& findings) {
  std::map<std::string, std::size_t> pairs;
  std::string first;
  for (const PlannedOutput& output : plan.outputs) {
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      const Step& step = output.steps[s];
      const auto& pieces = output.targets[s].pieces;
      const bool was_quantized =
          std::ranges::any_of(pieces, [](const TargetPiece& p) { return is_quantized(p.tensor->encoding); });
      if (step.fidelity != Fidelity::requantized || !was_quantized) continue;
      if (first.empty()) first = step.name;
      ++pairs[fmt::format("{} -> {}", step.source_encoding, step.encoding)];
    }
  }
  if (pairs.empty()) return;
  std::string list;
  for (const auto& [pair, count] : pairs) list += fmt::format("{}{} x {}", list.empty() ? "" : ", ", count, pair);
  findings.push_back({Severity::warning, "requantized-again",
                      fmt::format("what was quantized once is quantized again, and loses a second time: {}", list), "",
                      first});
}

/// What is lost with the factors that are left out.
void measure_corrections(std::vector<LeftOut>& left_out, const ConvertOptions& options) {
  Workers(planning_threads(options)).for_each(left_out.size(), [&](std::size_t i, std::size_t) {
    if (left_out[i].corrected != nullptr) left_out[i].norm = measure_low_rank(*left_out[i].corrected);
  });
}

/// The configuration and the tensors disagree about the MTP layer: what is written goes by the tensors, and says so.
void note_absent_mtp(const Checkpoint& source, const Architecture* architecture, const Adaptation& adapted,
                     const ConvertOptions& options, Findings& findings) {
  if (architecture == nullptr || source.dialect == Dialect::gguf || options.drop_mtp) return;
  const int announced = architecture->announced_mtp_layers();
  if (announced <= adapted.mtp_layers) return;
  findings.push_back(
      {Severity::warning, "mtp-announced-absent",
       fmt::format("the configuration announces {} MTP layer{}, the tensors hold {}: written as the tensors say",
                   announced, announced == 1 ? "" : "s", adapted.mtp_layers),
       "config.json", ""});
}

/// The same of the vision tower, of whose file nothing is written then.
void note_absent_vision(const Checkpoint& source, const Architecture* architecture, const Plan& plan,
                        const ConvertOptions& options, Findings& findings) {
  if (architecture == nullptr || source.dialect == Dialect::gguf || options.drop_vision || !architecture->has_vision())
    return;
  if (std::ranges::any_of(plan.outputs, [](const PlannedOutput& one) { return one.kind == OutputKind::mmproj; }))
    return;
  findings.push_back({Severity::warning, "vision-announced-absent",
                      "the configuration describes a vision tower, the tensors hold none: no mmproj file is written",
                      "config.json", ""});
}

/// Takes the model's own file off the outputs, and what is in no other one with it.
void omit_model(Adaptation& adapted) {
  const auto model = std::ranges::find(adapted.outputs, OutputKind::model, &OutputDraft::kind);
  if (model == adapted.outputs.end()) return;
  const OutputDraft omitted = std::move(*model);
  adapted.outputs.erase(model);
  std::set<const Tensor*> told;
  for (const OutputDraft& draft : adapted.outputs) {
    for (const Target& target : draft.targets) {
      for (const TargetPiece& piece : target.pieces) told.insert(piece.tensor);
    }
  }
  for (const Target& target : omitted.targets) {
    for (const TargetPiece& piece : target.pieces) {
      if (told.insert(piece.tensor).second)
        adapted.left_out.push_back(
            {piece.tensor->name, "the model's own file is not among --outputs", nullptr, std::nullopt});
    }
  }
}

/// The head is the embedding, and a copy of it lies beside it.
void note_tied_copies(const Adaptation& adapted, Findings& findings) {
  if (adapted.tied_copies.empty()) return;
  findings.push_back({Severity::note, "head-tied-copy",
                      "the head is the embedding; the copy that is stored beside it is not written", "",
                      adapted.tied_copies.front()});
}

/// GPTQModel takes v1 zero points of asymmetric modules from its own files only, because others once wrote them wrong.
/// Source: ModelCloud/GPTQModel gptqmodel/models/loader.py (checkpoints with sym=False).
void note_asymmetric_v1(const PlannedOutput& output, const ConvertOptions& options, Findings& findings) {
  if (options.format != "gptq" || options.layout != GptqLayout::v1) return;
  const auto asymmetric = [](const Step& step) { return step.module && !step.module->sym; };
  const auto first = std::ranges::find_if(output.steps, asymmetric);
  if (first == output.steps.end()) return;
  findings.push_back(
      {Severity::warning, "gptq-asymmetric-v1",
       fmt::format("{} modules have zero points other than the middle, which GPTQModel does not load from "
                   "v1 files of others: --layout v2 writes what it loads",
                   std::ranges::count_if(output.steps, asymmetric)),
       "", first->name});
}

/// The GPU's rule is as its kernels read; nobody has held it against one.
void note_unverified_rule(const Plan& plan, const ConvertOptions& options, Findings& findings) {
  if (options.mlx_rule != MlxRule::metal || plan.format != "mlx") return;
  for (const PlannedOutput& output : plan.outputs) {
    const auto first = std::ranges::find(output.steps, Fidelity::requantized, &Step::fidelity);
    if (first == output.steps.end()) continue;
    findings.push_back({Severity::warning, "mlx-rule-unverified",
                        "codes by the metal rule follow MLX's GPU kernels as they read and were never held against one",
                        "", first->name});
    return;
  }
}

}  // namespace

void check_required(const Plan& plan, Fidelity required) {
  std::vector<std::string> offenders;
  for (const PlannedOutput& output : plan.outputs) {
    for (const Step& step : output.steps) {
      if (step.fidelity > required) {
        offenders.push_back(
            fmt::format("{}: {}{}{}", step.name, name(step.fidelity), step.reason.empty() ? "" : ", ", step.reason));
      }
    }
  }
  for (const LeftOut& left : plan.left_out) offenders.push_back(left.name + ": left_out, " + left.reason);
  if (!offenders.empty()) {
    throw refusal(fmt::format("--require {} does not hold", name(required)), offenders, "nothing was written");
  }
}

void refuse_offenders(std::string_view format, const std::vector<std::string>& offenders) {
  if (offenders.empty()) return;
  throw refusal(
      fmt::format("no {} encoding holds these tensors to the bit", format), offenders,
      "--allow rounded keeps codes and rounds scales or offsets where that is enough; --allow requantized gives "
      "them new codes of one bit more; --allow dense stores them as F32 (exact, larger); --recipe names an "
      "encoding for each; --dense f32|bf16|f16 decodes every quantized tensor");
}

void keep_originals(const OpenedPath& source, const PlannedOutput& output, Metadata& keys) {
  if (source.checkpoint->dialect == Dialect::gguf) return;
  for (const Target& target : output.targets) {
    if (target.pieces.size() != 1) continue;
    const TargetPiece& piece = target.pieces.front();
    const auto* dense = std::get_if<Dense>(&piece.tensor->encoding);
    if (dense == nullptr || piece.view.elementwise == Elementwise::none || !is_float(dense->dtype)) continue;
    if (measure_dense(target, DType::f32).irreversible == 0) continue;
    const RowSource& rows = *piece.tensor->part(PartId::values).rows;
    std::vector<std::byte> bytes(static_cast<std::size_t>(rows.rows()) * rows.row_bytes());
    rows.read({0, rows.rows()}, bytes);
    const auto* raw = reinterpret_cast<const std::uint8_t*>(bytes.data());
    keys.set(original_values_key(piece.canonical),
             MetaArray{MetaType::u8, std::vector<std::uint8_t>(raw, raw + bytes.size())});
    keys.set(original_type_key(piece.canonical), std::string(name(dense->dtype)));
  }
}

namespace {

Metadata metadata_of(std::span<const OpenedPath> sources, const PlannedOutput& output, const Adaptation& adapted,
                     const Format& format, const ConvertOptions& options, Findings& findings) {
  const OpenedPath& source = sources.front();
  if (format.name == "gguf") {
    // With the MTP block in a file of its own, the model has none.
    const int mtp_layers = options.separate_mtp && output.kind == OutputKind::model ? 0 : adapted.mtp_layers;
    Metadata keys = gguf_keys(*source.checkpoint, source.architecture, output, mtp_layers, options, findings);
    keep_originals(source, output, keys);
    for (const auto& permutation : adapted.permutations) {
      const std::string& weight = permutation.first;
      const bool is_here = std::ranges::any_of(output.targets, [&](const Target& target) {
        return std::ranges::any_of(target.pieces, [&](const TargetPiece& piece) { return piece.canonical == weight; });
      });
      // Factors share rows as well, of which the weight whose columns they meet need not be there.
      if (is_here || output.kind == OutputKind::adapter)
        keys.set(std::string(kPermutationKey) + weight, MetaArray{MetaType::i32, permutation.second});
    }
    if (output.kind == OutputKind::adapter) set_factor_ranks(adapted.factor_ranks, keys);
    return keys;
  }
  Metadata metadata;
  if (source.checkpoint->dialect == Dialect::hf && !output.directory) metadata = source.checkpoint->metadata;
  metadata.set("format", std::string(format.packing == Packing::mlx ? "mlx" : "pt"));
  return metadata;
}

}  // namespace

std::uint64_t Step::bytes() const {
  std::uint64_t total = 0;
  for (const StepArray& array : arrays) total += array.plan.bytes();
  return total;
}

std::uint64_t PlannedOutput::data_bytes() const {
  std::uint64_t total = 0;
  for (const Step& step : steps) total += step.bytes();
  return total;
}

Fidelity Plan::worst() const {
  Fidelity worst = left_out.empty() ? Fidelity::bytes : Fidelity::left_out;
  for (const PlannedOutput& output : outputs) {
    for (const Step& step : output.steps) worst = std::max(worst, step.fidelity);
  }
  return worst;
}

std::uint64_t Plan::data_bytes() const {
  std::uint64_t total = 0;
  for (const PlannedOutput& output : outputs) total += output.data_bytes();
  return total;
}

std::filesystem::path output_path(const std::filesystem::path& target, OutputKind kind) {
  switch (kind) {
    // "out/" and "out" are one directory, and what grows beside it has one name.
    case OutputKind::model: return target.has_filename() ? target : target.parent_path();
    case OutputKind::mmproj: return target.parent_path() / ("mmproj-" + target.filename().string());
    case OutputKind::mtp: return target.parent_path() / ("mtp-" + target.filename().string());
    case OutputKind::adapter:
      return target.parent_path() / (target.stem().string() + "-LoRA" + target.extension().string());
  }
  return target;
}

Plan plan_conversion(const Checkpoint& source, const Architecture* architecture, const std::filesystem::path& target,
                     const ConvertOptions& options) {
  const OpenedPath path{&source, architecture};
  return plan_conversion(std::span(&path, 1), target, options);
}

Plan plan_conversion(std::span<const OpenedPath> sources, const std::filesystem::path& target,
                     const ConvertOptions& options) {
  const Format* format = find_format(options.format);
  if (format == nullptr) throw Error(ErrorCode::invalid, "there is no format '{}'", options.format);
  if (format->create == nullptr) throw Error(ErrorCode::unsupported, "{} can be read but not written", format->name);
  const Dialect dialect = dialect_of(*format);
  const bool directory = format->packing != Packing::one_array || options.directory;

  Plan plan;
  plan.format = format->name;
  for (const OpenedPath& path : sources) plan.sources.push_back(path.checkpoint);
  DirectoryFiles files;
  if (directory) {
    const int mtp_layers = options.drop_mtp ? 0 : count_mtp_layers(sources);
    files = collect_directory_files(sources, dialect, mtp_layers, options, plan.findings);
  }
  const auto own_names = directory_architecture(sources, files, dialect);
  const Architecture* names = own_names != nullptr ? own_names.get() : sources.front().architecture;
  Adaptation adapted = adapt(sources, names, dialect, options);
  plan.restored = std::move(adapted.restored);
  if (format->name == "gguf" && options.omit_model) omit_model(adapted);
  if (adapted.outputs.empty())
    throw Error(ErrorCode::invalid, "nothing of it is to be written").at(plan.sources.front()->path);
  std::vector<std::string> offenders;
  const Recipe exact;
  Assigner assigner(options.recipe != nullptr ? *options.recipe : exact);
  AssignContext context{.format = format, .kind = {}, .model = mixture_model(sources.front(), adapted, options)};
  for (OutputDraft& draft : adapted.outputs) {
    PlannedOutput& output = plan.outputs.emplace_back();
    output.kind = draft.kind;
    output.directory = directory;
    output.path = output_path(target, draft.kind);
    output.targets = std::move(draft.targets);
    if (mixture_for(options.recipe.get(), draft.kind) != nullptr && dialect == Dialect::gguf)
      order_as_llama_does(output);
    context.kind = draft.kind;
    plan_steps(output, *format, options, assigner.decide(output.targets, context), offenders);
  }
  assigner.note_unused(plan.findings);
  refuse_offenders(format->name, offenders);
  for (PlannedOutput& output : plan.outputs) {
    output.metadata = metadata_of(sources, output, adapted, *format, options, plan.findings);
    note_asymmetric_v1(output, options, plan.findings);
    if (directory) output.files = finish_directory_files(files, *format, output, adapted, options);
  }
  if (format->name == "gguf") {
    note_absent_mtp(*sources.front().checkpoint, sources.front().architecture, adapted, options, plan.findings);
    note_absent_vision(*sources.front().checkpoint, sources.front().architecture, plan, options, plan.findings);
  }
  note_requantized(plan, plan.findings);
  note_unverified_rule(plan, options, plan.findings);
  note_tied_copies(adapted, plan.findings);
  plan.left_out = std::move(adapted.left_out);
  measure_corrections(plan.left_out, options);
  if (options.require) check_required(plan, *options.require);
  return plan;
}

}  // namespace regauge
