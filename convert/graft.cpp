#include "convert/graft.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "convert/choose.h"
#include "convert/directory_files.h"
#include "convert/factors.h"
#include "convert/gguf_keys.h"
#include "convert/graft_config.h"
#include "convert/memory.h"
#include "convert/recipe/assign.h"
#include "convert/recipe/recipe.h"
#include "convert/refusal.h"
#include "convert/workers.h"
#include "models/low_rank.h"
#include "models/original_values.h"

namespace regauge {
namespace {

using Slots = std::map<Slot, Shape>;

/// The slots of one part that a checkpoint has, with the sizes that its own configuration gives them.
Slots slots_of(const OpenedPath& path, Component part) {
  Slots slots;
  for (const Tensor& tensor : path.checkpoint->tensors) {
    const auto assembly = path.architecture->parse(path.checkpoint->dialect, tensor.name, tensor.shape);
    if (!assembly) continue;
    for (const Piece& piece : assembly->pieces) {
      if (piece.slot.component == part) slots.emplace(piece.slot, path.architecture->slot_shape(piece.slot));
    }
  }
  return slots;
}

std::optional<Slot> embedding_of(const Architecture& architecture) {
  for (const ExpectedSlot& expected : architecture.expected()) {
    if (expected.slot.component == Component::embedding) return expected.slot;
  }
  return std::nullopt;
}

class Grafting {
 public:
  Grafting(const GraftRequest& request, std::filesystem::path target, ConvertOptions options)
      : request_(request), base_(*request.base.checkpoint), target_(std::move(target)), options_(std::move(options)) {
    if (request.base.architecture == nullptr)
      throw Error(ErrorCode::unsupported, "the architecture is not known, so nothing can be grafted").at(base_.path);
    format_ = find_format(base_.array_format());
    options_.format = base_.array_format();
    options_.as_stored = true;
    options_.eora = EoraPolicy::keep;
    options_.directory = base_.dialect != Dialect::gguf;
    if (options_.directory && !base_.is_directory())
      throw Error(ErrorCode::unsupported, "is one file of a directory, or beside no configuration: name the directory")
          .at(base_.path);
    if (const auto layout = gptq_layout_from_name(base_.array_version())) options_.layout = *layout;
  }

  Plan run() {
    if (request_.mtp) take(*request_.mtp, Component::mtp, "an MTP layer");
    if (request_.vision) take(*request_.vision, Component::vision, "a vision tower");
    plan_.format = base_.array_format();
    plan_.sources.push_back(&base_);
    for (const auto* donor : {&request_.mtp, &request_.vision}) {
      if (*donor) plan_.sources.push_back((*donor)->checkpoint);
    }
    if (options_.directory) {
      directory();
    } else {
      gguf();
    }
    refuse_offenders(base_.array_format(), offenders_);
    if (options_.require) check_required(plan_, *options_.require);
    return std::move(plan_);
  }

 private:
  /// Checks a donor of one part against the base by what their configurations say.
  void take(const OpenedPath& donor, Component part, std::string_view what) {
    const std::string& path = donor.checkpoint->path;
    if (donor.architecture == nullptr)
      throw Error(ErrorCode::unsupported, "the architecture is not known, so nothing can be taken from it").at(path);
    if (!slots_of(request_.base, part).empty()) {
      if (!request_.replace)
        throw Error(ErrorCode::invalid, "has {} of its own; --replace takes it out", what).at(base_.path);
      replaced_.insert(part);
    }
    const Slots slots = slots_of(donor, part);
    if (slots.empty()) throw Error(ErrorCode::invalid, "has no such part: {}", what).at(path);
    if (part == Component::mtp) {
      check_same_text(donor);
      for (const auto& [slot, shape] : slots) mtp_layers_ = std::max(mtp_layers_, slot.layer + 1);
    } else {
      check_width(donor);
    }
    parts_.push_back({&donor, part, slots});
  }

  /// An MTP layer drafts for one model: it takes that model's hidden states and shares its embedding and head.
  void check_same_text(const OpenedPath& donor) const {
    const Architecture& own = *request_.base.architecture;
    const Architecture& other = *donor.architecture;
    const auto fail = [&](const std::string& why) {
      throw Error(ErrorCode::invalid, "its MTP layer is of another model: {}", why).at(donor.checkpoint->path);
    };
    if (own.family() != other.family()) fail(fmt::format("{}, the base is {}", other.family(), own.family()));
    if (own.layers() != other.layers()) fail(fmt::format("{} layers, the base has {}", other.layers(), own.layers()));
    const auto embedding = embedding_of(own);
    if (!embedding || !embedding_of(other)) fail("it tells no sizes");
    const Shape wanted = own.slot_shape(*embedding);
    const Shape found = other.slot_shape(*embedding);
    if (wanted != found) fail(fmt::format("an embedding of {}, the base has {}", to_string(found), to_string(wanted)));
  }

  void check_width(const OpenedPath& donor) const {
    const auto embedding = embedding_of(*request_.base.architecture);
    if (!embedding) throw Error(ErrorCode::invalid, "tells no sizes").at(base_.path);
    const std::int64_t hidden = request_.base.architecture->slot_shape(*embedding).columns();
    const std::int64_t width = vision_width(*donor.checkpoint);
    if (width != hidden) {
      throw Error(ErrorCode::invalid, "its vision tower ends in vectors of {}, the base takes {}", width, hidden)
          .at(donor.checkpoint->path);
    }
  }

  /// Both configurations may agree and the weights be of another size all the same, or some be missing.
  void check_parts(const Architecture& names, Component part) const {
    for (const Part& taken : parts_) {
      if (taken.component != part) continue;
      std::vector<std::string> wrong;
      for (const auto& [slot, shape] : taken.slots) {
        if (!names.place(base_.dialect, slot)) {
          wrong.push_back(names.canonical_name(slot) + ": the base has no place for it");
        } else if (names.slot_shape(slot) != shape) {
          wrong.push_back(fmt::format("{}: {} where the base has {}", names.canonical_name(slot), to_string(shape),
                                      to_string(names.slot_shape(slot))));
        }
      }
      for (const ExpectedSlot& expected : names.expected()) {
        if (expected.slot.component == part && !taken.slots.contains(expected.slot))
          wrong.push_back(names.canonical_name(expected.slot) + ": is missing");
      }
      if (!wrong.empty())
        throw Error(ErrorCode::invalid, "its weights do not fit the base: {}", list_names(wrong))
            .at(taken.donor->checkpoint->path);
    }
  }

  PlannedOutput& add(OutputDraft& draft) {
    PlannedOutput& output = plan_.outputs.emplace_back();
    output.kind = draft.kind;
    output.directory = options_.directory;
    output.path = output_path(target_, draft.kind);
    output.targets = std::move(draft.targets);
    plan_steps(output);
    return output;
  }

  /// What the user asks for concerns the parts; what the base has stays what it is.
  void plan_steps(PlannedOutput& output) {
    ConvertOptions as_is = options_;
    as_is.dtype = as_is.dense = std::nullopt;
    const Recipe exact;
    Assigner assigner(options_.recipe != nullptr ? *options_.recipe : exact);
    const AssignContext context{.format = format_, .kind = output.kind, .model = {}};
    const std::vector<Decision> wishes = assigner.decide(output.targets, context);
    std::vector<std::optional<std::variant<Step, Offender>>> choices(output.targets.size());
    Workers(planning_threads(options_)).for_each(choices.size(), [&](std::size_t i, std::size_t) {
      const Target& target = output.targets[i];
      choices[i] = is_of_base(target) ? choose_route(target, *format_, as_is, {})
                                      : choose_route(target, *format_, options_, wishes[i]);
      auto* step = std::get_if<Step>(&*choices[i]);
      if (step != nullptr && target.is_transposed) transpose_step(target, *step);
    });
    for (std::size_t i = 0; i < choices.size(); ++i) {
      if (auto* step = std::get_if<Step>(&*choices[i])) {
        output.steps.push_back(std::move(*step));
      } else {
        offenders_.push_back(output.targets[i].name + ": " + std::get<Offender>(*choices[i]).reason);
      }
    }
  }

  bool is_of_base(const Target& target) const {
    const Tensor* first = base_.tensors.data();
    return std::ranges::any_of(target.pieces, [&](const TargetPiece& piece) {
      return piece.tensor >= first && piece.tensor < first + base_.tensors.size();
    });
  }

  void own(Adaptation& adapted) {
    for (auto& tensor : adapted.restored) plan_.restored.push_back(std::move(tensor));
  }

  void directory() {
    const bool replaces = replaced_.contains(Component::vision);
    GraftedFiles files = grafted_files(base_, request_.vision ? request_.vision->checkpoint : nullptr, mtp_layers_,
                                       replaces, plan_.findings);
    if (files.renames) return renamed(std::move(files));
    Checkpoint shell = base_;
    shell.config = files.config;
    const auto names = recognise(shell);
    const std::vector<OpenedPath> donors = checked_donors(*names);
    const Rewritten rewritten = files_with(base_, *request_.base.architecture, replaced_);
    OutputDraft draft;
    for (const Tensor* tensor : rewritten.tensors) draft.targets.push_back(as_stored(*tensor));
    if (!donors.empty()) {
      Adaptation adapted = adapt(donors, names.get(), base_.dialect, options_);
      own(adapted);
      for (OutputDraft& one : adapted.outputs) std::ranges::move(one.targets, std::back_inserter(draft.targets));
    }
    if (request_.eora) {
      Adaptation factors = adapt_factors(request_.base, base_.dialect, options_);
      own(factors);
      files.add_adapter(factors);
      for (OutputDraft& one : factors.outputs) std::ranges::move(one.targets, std::back_inserter(draft.targets));
    }
    PlannedOutput& output = add(draft);
    output.metadata.set("format", std::string(format_->packing == Packing::mlx ? "mlx" : "pt"));
    // Of an MLX directory an MTP layer lies in a file of its own, and the model's files stay what they are.
    const bool adds = request_.vision || (request_.mtp && base_.dialect != Dialect::mlx) || !rewritten.tensors.empty();
    KeptFiles kept = kept_files(base_, adds, rewritten.files);
    output.kept = std::move(kept.files);
    output.new_file = std::move(kept.new_file);
    output.files = std::move(files).finish(*format_, base_, *request_.base.architecture, output,
                                           rewritten.tensors.size(), replaced_);
  }

  std::vector<OpenedPath> checked_donors(const Architecture& names) const {
    std::vector<OpenedPath> donors;
    for (const Part& part : parts_) {
      check_parts(names, part.component);
      donors.push_back({part.donor->checkpoint, part.donor->architecture, part.component});
    }
    return donors;
  }

  /// A tensor of the base that has to be written again because of its neighbours.
  Target as_stored(const Tensor& tensor) const {
    Target target = as_it_is(tensor);
    const Architecture& architecture = *request_.base.architecture;
    const auto assembly = architecture.parse(base_.dialect, tensor.name, tensor.shape);
    target.is_linear = std::holds_alternative<Grouped>(tensor.encoding);
    if (!assembly || assembly->pieces.empty()) return target;
    target.component = assembly->pieces.front().slot.component;
    target.is_linear = target.is_linear || architecture.is_linear(assembly->pieces.front().slot);
    if (assembly->pieces.size() == 1)
      target.pieces.front().canonical = architecture.canonical_name(assembly->pieces.front().slot);
    return target;
  }

  /// The names of the multimodal class are not those of the text class, so every array is written again, its bytes as they are.
  void renamed(GraftedFiles files) {
    Checkpoint shell = base_;
    shell.config = files.config;
    shell.tensors.clear();  // whose names would speak for the text class
    const auto names = recognise(shell);
    std::vector<OpenedPath> sources{request_.base};
    sources.front().without = replaced_;
    for (OpenedPath& donor : checked_donors(*names)) sources.push_back(std::move(donor));
    Adaptation adapted = adapt(sources, names.get(), base_.dialect, options_);
    own(adapted);
    OutputDraft draft;
    for (OutputDraft& one : adapted.outputs) std::ranges::move(one.targets, std::back_inserter(draft.targets));
    PlannedOutput& output = add(draft);
    output.metadata.set("format", std::string("pt"));
    DirectoryFiles all;
    all.config = std::move(files.config);
    for (CarriedFile& file : files.others) {
      if (!describes_storage(file.name)) all.files.push_back(std::move(file));
    }
    output.files = finish_directory_files(std::move(all), *format_, output, adapted, options_);
  }

  void gguf() {
    Checkpoint shell = base_;
    if (mtp_layers_ > 0) announce_mtp(shell.metadata, mtp_layers_);
    const auto names = recognise(shell);
    check_parts(*names, Component::mtp);
    std::vector<OpenedPath> sources{request_.base};
    sources.front().without = replaced_;
    forget_originals(shell.metadata);
    if (request_.mtp) sources.push_back({request_.mtp->checkpoint, request_.mtp->architecture, Component::mtp});
    Adaptation adapted = adapt(sources, names.get(), Dialect::gguf, options_);
    own(adapted);
    for (OutputDraft& draft : adapted.outputs) {
      PlannedOutput& output = add(draft);
      if (output.kind == OutputKind::adapter) {
        output.metadata = gguf_keys(base_, request_.base.architecture, output, 0, options_, plan_.findings);
        copy_permutations(base_.metadata, output.metadata);
        set_factor_ranks(adapted.factor_ranks, output.metadata);
        continue;
      }
      output.metadata = gguf_keys(shell, names.get(), output, mtp_layers_, options_, plan_.findings);
      if (request_.mtp) {
        update_size_label(*names, output);
        keep_originals(*request_.mtp, output, output.metadata);
      }
    }
    if (request_.vision) vision_beside();
  }

  /// What the base carries for the way back of weights that make way.
  void forget_originals(Metadata& keys) const {
    std::set<std::string> gone;
    for (const Component part : replaced_) {
      for (const auto& [slot, shape] : slots_of(request_.base, part))
        gone.insert(request_.base.architecture->canonical_name(slot));
    }
    for (const auto& [key, value] : std::vector<Metadata::Entry>(keys.entries())) {
      const auto original = parse_original_key(key);
      if (original && gone.contains(original->name)) keys.erase(key);
    }
  }

  void vision_beside() {
    const OpenedPath tower{request_.vision->checkpoint, request_.vision->architecture, Component::vision};
    check_parts(*tower.architecture, Component::vision);
    ConvertOptions options = options_;
    // Of a GGUF only the tower is taken, so its tensors go by their slots too; others take llama.cpp's conventions.
    options.as_stored = tower.checkpoint->dialect == Dialect::gguf;
    Adaptation adapted = adapt(std::span(&tower, 1), tower.architecture, Dialect::gguf, options);
    own(adapted);
    for (OutputDraft& draft : adapted.outputs) {
      PlannedOutput& output = add(draft);
      output.metadata = gguf_keys(*tower.checkpoint, tower.architecture, output, 0, options_, plan_.findings);
      keep_originals(tower, output, output.metadata);
    }
  }

  struct Part {
    const OpenedPath* donor;
    Component component;
    Slots slots;
  };

  const GraftRequest& request_;
  const Checkpoint& base_;
  std::filesystem::path target_;
  ConvertOptions options_;
  const Format* format_ = nullptr;
  std::vector<Part> parts_;
  std::set<Component> replaced_;  ///< parts of the base that make way
  int mtp_layers_ = 0;
  Plan plan_;
  std::vector<std::string> offenders_;
};

}  // namespace

Plan plan_graft(const GraftRequest& request, const std::filesystem::path& target, ConvertOptions options) {
  if (!request.mtp && !request.vision && !request.eora)
    throw Error(ErrorCode::invalid, "nothing to graft: name a donor with --mtp, --vision or --eora");
  return Grafting(request, target, std::move(options)).run();
}

}  // namespace regauge
