#include "convert/adapt.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "convert/completeness.h"
#include "convert/corrections.h"
#include "convert/dropping.h"
#include "convert/fold.h"
#include "convert/recipe/recipe.h"
#include "convert/restore_original.h"
#include "convert/route/reencode_dense.h"
#include "ir/low_rank.h"

namespace regauge {
namespace {

/// A slot that the checkpoint has, and where.
struct Found {
  const Tensor* tensor = nullptr;
  const Assembly* assembly = nullptr;
  const Piece* piece = nullptr;
  std::size_t source = 0;
};

/// Pieces must tile the matrix: bands of rows one after another, and within a band every column once.
void check_tiling(const Target& target) {
  std::int64_t row = 0;
  for (std::size_t i = 0; i < target.pieces.size();) {
    const std::int64_t begin = target.pieces[i].target_row;
    const std::int64_t count = target.pieces[i].target_rows;
    std::int64_t columns = 0;
    bool same = begin == row;
    for (; i < target.pieces.size() && target.pieces[i].target_row == begin; ++i) {
      const TargetPiece& piece = target.pieces[i];
      same = same && piece.target_rows == count;
      columns += piece.target_columns ? piece.target_columns->size() : target.columns;
    }
    if (!same || columns != target.columns) {
      throw Error(ErrorCode::malformed, "its parts cover row {} incompletely or twice", row).tensor(target.name);
    }
    row += count;
  }
  if (row != target.rows) {
    throw Error(ErrorCode::malformed, "only {} of {} rows have a source", row, target.rows).tensor(target.name);
  }
}

/// Whether a recipe may make GPTQ modules, of which every expert is one, out of what is stored fused.
bool takes_experts_apart(const ConvertOptions& options) {
  return options.format == "gptq" && options.recipe != nullptr && !options.recipe->is_exact() && !options.dense;
}

/// Whether factors of experts are kept, which directories of Hugging Face's names know of single modules only.
bool keeps_expert_factors(const OpenedPath& path, const ConvertOptions& options) {
  if (path.architecture == nullptr || options.as_stored) return false;
  return std::ranges::any_of(path.checkpoint->tensors, [&](const Tensor& tensor) {
    if (!tensor.has_low_rank()) return false;
    const auto assembly = path.architecture->parse(path.checkpoint->dialect, tensor.name, tensor.shape);
    return assembly && std::ranges::any_of(assembly->pieces, [&](const Piece& piece) {
             return piece.slot.expert >= 0 &&
                    policy_for(options, path.architecture->canonical_name(piece.slot)) == EoraPolicy::keep;
           });
  });
}

/// Whether a tensor of `path` has factors for each of several weights, which its own format may keep under no name.
bool has_stacked_factors(const OpenedPath& path) {
  return std::ranges::any_of(path.checkpoint->tensors, [](const Tensor& tensor) {
    return tensor.has_low_rank() && low_rank_groups(tensor).groups > 1;
  });
}

/// Whether norms are stored otherwise than names and shapes announce (models/norm_shift.h): then even a target of the
/// source's dialect takes them anew, as its loaders expect them.
bool has_norms_of_its_own(const OpenedPath& path) {
  const auto announced = recognise(*path.checkpoint);
  return announced != nullptr && std::ranges::any_of(path.checkpoint->tensors, [&](const Tensor& tensor) {
           const auto assembly = tensor.shape.rank() == 1
                                     ? path.architecture->parse(path.checkpoint->dialect, tensor.name, tensor.shape)
                                     : std::nullopt;
           if (!assembly || assembly->pieces.size() != 1) return false;
           const Slot& slot = assembly->pieces.front().slot;
           return path.architecture->stored_convention(slot).elementwise !=
                  announced->stored_convention(slot).elementwise;
         });
}

class Adapter {
 public:
  Adapter(std::span<const OpenedPath> sources, const Architecture& names, Dialect dialect,
          const ConvertOptions& options)
      : sources_(sources),
        names_(names),
        dialect_(dialect),
        options_(options),
        dropping_(options, result_.left_out),
        corrections_(options, factor_form(dialect, *sources.front().checkpoint, options), result_) {
    if (dialect != Dialect::hf) return;
    experts_apart_ =
        std::ranges::any_of(sources, [&](const OpenedPath& path) { return keeps_expert_factors(path, options); });
  }

  Adaptation run() {
    for (std::size_t i = 0; i < sources_.size(); ++i) take_apart(i);
    dropping_.check(dialect_);
    fold();
    for (const auto& [slot, found] : slots_) put_together(slot, found);
    finish_outputs();
    corrections_.finish();
    const HasSlot has = [this](const Slot& slot) { return slots_.contains(slot); };
    check_parts(sources_, options_, has);
    if (dialect_ == Dialect::gguf) check_demanded(sources_, names_, result_.mtp_layers, has);
    return std::move(result_);
  }

 private:
  void take_apart(std::size_t source) {
    const Checkpoint& checkpoint = *sources_[source].checkpoint;
    const Architecture& architecture = *sources_[source].architecture;
    assemblies_.emplace_back().reserve(checkpoint.tensors.size());
    for (const Tensor& tensor : checkpoint.tensors) {
      auto assembly = architecture.parse(checkpoint.dialect, tensor.name, tensor.shape);
      const std::optional<Component>& only = sources_[source].only;
      const bool known = assembly && !assembly->pieces.empty();
      if (only && (!known || assembly->pieces.front().slot.component != *only)) continue;
      if (known && sources_[source].without.contains(assembly->pieces.front().slot.component)) continue;
      if (!assembly) {
        dropping_.foreign(tensor);
        continue;
      }
      if (!assembly->pieces.empty() && dropping_.drops(assembly->pieces.front().slot, tensor, architecture)) continue;
      if (is_copy_of_embedding(*assembly, tensor)) {
        result_.tied_copies.push_back(tensor.name);
        continue;
      }
      assemblies_.back().push_back(std::move(*assembly));
      const Assembly& kept = assemblies_.back().back();
      for (const Piece& piece : kept.pieces) {
        if (!names_.place(dialect_, piece.slot, experts_of(tensor, kept, source))) {
          dropping_.no_place(tensor);
          break;
        }
        if (!slots_.emplace(piece.slot, Found{&tensor, &kept, &piece, source}).second) {
          throw Error(ErrorCode::malformed, "'{}' is stored twice", architecture.canonical_name(piece.slot))
              .tensor(tensor.name);
        }
      }
    }
  }

  /// GPTQ has no stacks: each expert is a module. So is one with factors, wherever names are Hugging Face's.
  /// Experts that come apart in those names stay so.
  ExpertLayout experts_of(const Tensor& tensor, const Assembly& assembly, std::size_t source) const {
    if (experts_apart_) return ExpertLayout::per_expert;
    if (sources_[source].checkpoint->dialect == Dialect::hf && assembly.pieces.size() == 1)
      return ExpertLayout::per_expert;
    const bool is_module = is_quantized(tensor.encoding) || takes_experts_apart(options_);
    return options_.format == "gptq" && !options_.dense && is_module ? ExpertLayout::per_expert : ExpertLayout::fused;
  }

  /// A tied model has no head: transformers never looks at one that is stored all the same, llama.cpp would compute with it
  /// and mlx-lm refuses it.
  bool is_copy_of_embedding(const Assembly& assembly, const Tensor& tensor) const {
    return names_.tied_head() && std::holds_alternative<Dense>(tensor.encoding) && !assembly.pieces.empty() &&
           assembly.pieces.front().slot.component == Component::head;
  }

  /// Act-order that a reordering of the MLP's inner dimension takes away, where the target has no index for it.
  void fold() {
    if (dialect_ == Dialect::hf || !options_.fold || options_.as_stored || options_.dense) return;
    std::map<Slot, const Tensor*> whole;
    for (const auto& [slot, found] : slots_) {
      if (found.assembly->pieces.size() == 1) whole.emplace(slot, found.tensor);
    }
    orders_ = fold_orders(names_, whole);
    for (const auto& [slot, order] : orders_) result_.permutations.emplace(names_.canonical_name(slot), order);
  }

  void put_together(const Slot& slot, const Found& found) {
    const Checkpoint& checkpoint = *sources_[found.source].checkpoint;
    const Architecture& architecture = *sources_[found.source].architecture;
    const Placement place = *names_.place(dialect_, slot, experts_of(*found.tensor, *found.assembly, found.source));
    const Shape canonical = names_.slot_shape(slot);
    const View stored = architecture.stored_convention(slot);
    const auto undo = inverse(stored);
    if (!undo) throw Error(ErrorCode::internal, "a convention that drops rows").tensor(found.tensor->name);
    View convention = options_.as_stored ? names_.stored_convention(slot) : names_.convention(dialect_, slot);
    if (const View folded = fold_view(names_, orders_, slot); !folded.is_identity())
      convention = compose(folded, convention, canonical.rows(), canonical.columns());

    Target& target = targets_[place.array];
    if (target.pieces.empty()) {
      target.name = place.array;
      target.shape = place.shape;
      target.rows = place.rows;
      target.columns = place.columns;
      target.required = names_.required_dtype(dialect_, slot);
      target.component = slot.component;
      target.is_linear = names_.is_linear(slot);
      target.rounds_by_dialect = dialect_ == Dialect::mlx && convention.elementwise != Elementwise::none;
      const bool was_required = checkpoint.dialect == Dialect::gguf && architecture.required_dtype(Dialect::gguf, slot);
      const bool was_shifted = dialect_ == Dialect::hf && stored.elementwise != Elementwise::none;
      if (was_required || was_shifted) target.usual = usual_dtype(slot);
      slots_of_[place.array] = slot;
    }
    TargetPiece piece{.tensor = found.tensor,
                      .source_columns = found.assembly->columns,
                      .rows = found.piece->rows,
                      .columns = found.piece->columns,
                      .view = compose(*undo, convention, canonical.rows(), canonical.columns()),
                      .target_row = place.piece.rows.begin,
                      .target_rows = place.piece.rows.size(),
                      .target_columns = place.piece.columns,
                      .canonical = names_.canonical_name(slot)};
    corrections_.take(piece, target);
    restore(checkpoint, stored, convention, piece);
    target.pieces.push_back(std::move(piece));
    if (slot.component == Component::mtp) result_.mtp_layers = std::max(result_.mtp_layers, slot.layer + 1);
  }

  /// Takes the piece from the values that the source carries for the way back, where it does.
  void restore(const Checkpoint& checkpoint, const View& stored, const View& convention, TargetPiece& piece) {
    if (checkpoint.dialect != Dialect::gguf || stored.elementwise == Elementwise::none) return;
    if (piece.view.is_identity()) return;  // what it would be made into is there already
    auto original = restore_original(checkpoint, *piece.tensor, piece.canonical, stored);
    if (!original) return;
    result_.restored.push_back(std::move(original));
    piece.tensor = result_.restored.back().get();
    piece.view = convention;
  }

  std::optional<DType> usual_dtype(const Slot& slot) {
    if (usual_.empty()) {
      for (const ExpectedSlot& expected : names_.expected()) usual_.emplace(expected.slot, expected.usual);
    }
    const auto found = usual_.find(slot);
    return found == usual_.end() ? std::nullopt : std::optional(found->second);
  }

  OutputKind kind_of(const Slot& slot) const {
    if (dialect_ == Dialect::gguf && options_.separate_mtp && slot.component == Component::mtp) return OutputKind::mtp;
    return names_.output_of(dialect_, slot);
  }

  /// The order in which llama.cpp's converter writes: by shard, and inside a shard by the name in the source.
  void finish_outputs() {
    std::map<OutputKind, OutputDraft> drafts;
    for (auto& [array, target] : targets_) {
      std::ranges::sort(target.pieces, {}, [](const TargetPiece& p) {
        return std::pair(p.target_row, p.target_columns ? p.target_columns->runs().front().begin : 0);
      });
      check_tiling(target);
      const Slot& slot = slots_of_[array];
      const OutputKind kind = kind_of(slot);
      // A file of the MTP block alone drafts with embeddings, final norm and head of its own.
      const bool outside_blocks = kind == OutputKind::model && slot.layer < 0;
      if (dialect_ == Dialect::gguf && options_.separate_mtp && outside_blocks && result_.mtp_layers > 0)
        drafts[OutputKind::mtp].targets.push_back(target);
      drafts[kind].targets.push_back(std::move(target));
    }
    for (auto& [kind, draft] : drafts) {
      draft.kind = kind;
      std::ranges::sort(draft.targets, {}, [&](const Target& t) {
        const Tensor& first = *t.pieces.front().tensor;
        return std::tuple(first_file(first), std::string_view(first.name), std::string_view(t.name));
      });
      result_.outputs.push_back(std::move(draft));
    }
  }

  std::size_t first_file(const Tensor& tensor) const {
    // Files of a second path come after those of the first.
    std::size_t before = 0;
    for (const OpenedPath& path : sources_) {
      const auto& tensors = path.checkpoint->tensors;
      if (!tensors.empty() && &tensor >= tensors.data() && &tensor < tensors.data() + tensors.size())
        return before + (tensor.arrays.empty() ? 0 : path.checkpoint->arrays[tensor.arrays.front()].file);
      before += path.checkpoint->files.size();
    }
    return 0;
  }

  std::span<const OpenedPath> sources_;
  const Architecture& names_;
  Dialect dialect_;
  const ConvertOptions& options_;
  Adaptation result_;
  Dropping dropping_;
  Corrections corrections_;
  bool experts_apart_ = false;
  std::vector<std::vector<Assembly>> assemblies_;  // of each source
  std::map<Slot, Found> slots_;
  FoldOrders orders_;
  std::map<std::string, Target> targets_;
  std::map<std::string, Slot> slots_of_;
  std::map<Slot, DType> usual_;
};

/// The shape in which `dialect` has a dense tensor that holds the same bytes in another one: a convolution of the other
/// ecosystem's axis order, in a checkpoint that otherwise keeps the dialect's conventions.
std::optional<Shape> shape_in_dialect(const Architecture& architecture, Dialect dialect, const Slot& slot,
                                      const Tensor& tensor) {
  if (tensor.shape.rank() != 3 || !std::holds_alternative<Dense>(tensor.encoding)) return std::nullopt;
  const auto place = architecture.place(dialect, slot);
  if (!place || place->shape.rank() != 3 || place->shape.elements() != tensor.shape.elements()) return std::nullopt;
  const bool conventional = architecture.stored_convention(slot) == architecture.convention(dialect, slot);
  return conventional && place->shape.dims[0] == tensor.shape.dims[0] ? std::optional(place->shape) : std::nullopt;
}

/// One source whose tensors keep their names and shapes.
Adaptation keep_names(const OpenedPath& path, Dialect dialect, const ConvertOptions& options) {
  Adaptation result;
  result.outputs.push_back({OutputKind::model, {}});
  Dropping dropping(options, result.left_out);
  Corrections corrections(options, factor_form(dialect, *path.checkpoint, options), result);
  for (const Tensor& tensor : path.checkpoint->tensors) {
    Target target = as_it_is(tensor);
    target.is_linear = std::holds_alternative<Grouped>(tensor.encoding);
    const auto assembly =
        path.architecture == nullptr ? std::nullopt : path.architecture->parse(dialect, tensor.name, tensor.shape);
    if (path.architecture != nullptr && !assembly && options.drop_foreign) {
      dropping.foreign(tensor);
      continue;
    }
    if (assembly && !assembly->pieces.empty()) {
      const Slot& slot = assembly->pieces.front().slot;
      if (dropping.drops(slot, tensor, *path.architecture)) continue;
      target.component = slot.component;
      target.is_linear = target.is_linear || path.architecture->is_linear(slot);
      target.required = path.architecture->required_dtype(dialect, slot);
      if (const auto shape = shape_in_dialect(*path.architecture, dialect, slot, tensor)) target.shape = *shape;
      if (slot.component == Component::mtp) result.mtp_layers = std::max(result.mtp_layers, slot.layer + 1);
      if (assembly->pieces.size() == 1) target.pieces.front().canonical = path.architecture->canonical_name(slot);
    }
    corrections.take(target.pieces.front(), target);
    result.outputs.front().targets.push_back(std::move(target));
  }
  corrections.finish();
  return result;
}

/// Whether a checkpoint keeps the conventions of its own dialect: an MLX directory may hold Hugging Face's norms and convolutions,
/// which loaders convert together or not at all, and the other way round.
bool is_conventional(const Architecture& architecture, Dialect dialect) {
  return std::ranges::all_of(architecture.expected(), [&](const ExpectedSlot& expected) {
    return expected.slot.component == Component::mtp || architecture.stored_convention(expected.slot).elementwise ==
                                                            architecture.convention(dialect, expected.slot).elementwise;
  });
}

}  // namespace

Target as_it_is(const Tensor& tensor) {
  Target target;
  target.name = tensor.name;
  target.shape = tensor.shape;
  target.rows = tensor.shape.rows();
  target.columns = tensor.shape.columns();
  target.pieces.push_back({.tensor = &tensor,
                           .source_columns = target.columns,
                           .rows = {0, target.rows},
                           .columns = std::nullopt,
                           .view = {},
                           .target_row = 0,
                           .target_rows = target.rows,
                           .target_columns = std::nullopt,
                           .canonical = tensor.name});
  return target;
}

Adaptation adapt_factors(const OpenedPath& path, Dialect dialect, const ConvertOptions& options) {
  Adaptation result;
  result.outputs.push_back({OutputKind::model, {}});
  result.factor_form = factor_form(dialect, *path.checkpoint, options);
  Corrections corrections(options, result.factor_form, result);
  for (const Tensor& tensor : path.checkpoint->tensors) {
    Target target = as_it_is(tensor);
    corrections.take(target.pieces.front(), target);
  }
  corrections.finish();
  return result;
}

Adaptation adapt(std::span<const OpenedPath> sources, const Architecture* names, Dialect dialect,
                 const ConvertOptions& options) {
  const Checkpoint& first = *sources.front().checkpoint;
  for (const OpenedPath& part : sources.subspan(1)) {
    if (part.architecture == nullptr)
      throw Error(ErrorCode::unsupported, "is no part of a model that is known").at(part.checkpoint->path);
  }
  // An adapter file holds factors of weights, not weights, and does not tell the sizes that names are checked against.
  const bool known = names != nullptr && first.metadata.get_string("general.type") != "adapter";
  const bool same_dialect = sources.size() == 1 && first.dialect == dialect && !options.separate_mtp &&
                            !options.as_stored &&
                            !(known && takes_experts_apart(options) && names->heads().experts > 0) &&
                            !(known && !is_conventional(*names, dialect)) &&
                            !(known && dialect == Dialect::hf && has_stacked_factors(sources.front())) &&
                            !(known && has_norms_of_its_own(sources.front()));
  Adaptation result;
  if (same_dialect || !known) {
    if (first.dialect != dialect && (dialect != Dialect::hf || options.format == "gptq")) {
      throw Error(ErrorCode::unsupported, "the architecture is not known, so its tensors have no {} names",
                  name(dialect))
          .at(first.path);
    }
    result = keep_names(known ? sources.front() : OpenedPath{&first, nullptr}, dialect, options);
  } else {
    result = Adapter(sources, *names, dialect, options).run();
  }
  result.factor_form = factor_form(dialect, first, options);
  return result;
}

}  // namespace regauge
