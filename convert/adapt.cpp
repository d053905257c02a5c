#include "convert/adapt.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "convert/refusal.h"

namespace regauge {
namespace {

/// A slot that the checkpoint has, and where.
struct Found {
  const Tensor* tensor = nullptr;
  const Assembly* assembly = nullptr;
  const Piece* piece = nullptr;
};

std::size_t first_file(const Checkpoint& source, const Tensor& tensor) {
  return tensor.arrays.empty() ? 0 : source.arrays[tensor.arrays.front()].file;
}

std::vector<std::string> low_rank_names(const Checkpoint& source) {
  std::vector<std::string> names;
  for (const Tensor& tensor : source.tensors) {
    if (tensor.has_low_rank()) names.push_back(tensor.name);
  }
  return names;
}

/// What --drop permits to leave behind, or the reason to refuse.
class Dropping {
 public:
  Dropping(const ConvertOptions& options, std::vector<LeftOut>& left_out) : options_(options), left_out_(left_out) {}

  bool drops(const Slot& slot, const Tensor& tensor) {
    if (slot.component == Component::vision && options_.drop_vision)
      return leave(tensor, "vision tower, by --drop vision");
    if (slot.component == Component::mtp && options_.drop_mtp) return leave(tensor, "MTP layer, by --drop mtp");
    return false;
  }

  void foreign(const Tensor& tensor) {
    if (options_.drop_foreign) {
      leave(tensor, "not part of the architecture, by --drop foreign");
    } else {
      foreign_.push_back(tensor.name);
    }
  }

  void no_place(const Tensor& tensor) { no_place_.push_back(tensor.name); }

  void check(Dialect dialect) const {
    if (!foreign_.empty()) {
      throw refusal("tensors that the architecture does not know have no name in the target", foreign_,
                    "--drop foreign leaves them out");
    }
    if (!no_place_.empty()) {
      throw refusal(fmt::format("the {} dialect has no place for these tensors", name(dialect)), no_place_,
                    "--drop vision or --drop mtp leaves a part out");
    }
  }

 private:
  bool leave(const Tensor& tensor, std::string reason) {
    left_out_.push_back({tensor.name, std::move(reason)});
    return true;
  }

  const ConvertOptions& options_;
  std::vector<LeftOut>& left_out_;
  std::vector<std::string> foreign_;
  std::vector<std::string> no_place_;
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

class Adapter {
 public:
  Adapter(const Checkpoint& source, const Architecture& architecture, Dialect dialect, const ConvertOptions& options)
      : source_(source), architecture_(architecture), dialect_(dialect), dropping_(options, result_.left_out) {}

  Adaptation run() {
    take_apart();
    dropping_.check(dialect_);
    for (const auto& [slot, found] : slots_) put_together(slot, found);
    finish_outputs();
    check_complete();
    return std::move(result_);
  }

 private:
  void take_apart() {
    assemblies_.reserve(source_.tensors.size());
    for (const Tensor& tensor : source_.tensors) {
      auto assembly = architecture_.parse(source_.dialect, tensor.name, tensor.shape);
      if (!assembly) {
        dropping_.foreign(tensor);
        continue;
      }
      if (!assembly->pieces.empty() && dropping_.drops(assembly->pieces.front().slot, tensor)) continue;
      assemblies_.push_back(std::move(*assembly));
      const Assembly& kept = assemblies_.back();
      for (const Piece& piece : kept.pieces) {
        if (!architecture_.place(dialect_, piece.slot)) {
          dropping_.no_place(tensor);
          break;
        }
        if (!slots_.emplace(piece.slot, Found{&tensor, &kept, &piece}).second) {
          throw Error(ErrorCode::malformed, "'{}' is stored twice", architecture_.canonical_name(piece.slot))
              .tensor(tensor.name);
        }
      }
    }
  }

  void put_together(const Slot& slot, const Found& found) {
    const Placement place = *architecture_.place(dialect_, slot);
    const Shape canonical = architecture_.slot_shape(slot);
    const auto undo = inverse(architecture_.stored_convention(slot));
    if (!undo) throw Error(ErrorCode::internal, "a convention that drops rows").tensor(found.tensor->name);

    Target& target = targets_[place.array];
    if (target.pieces.empty()) {
      target.name = place.array;
      target.shape = place.shape;
      target.rows = place.rows;
      target.columns = place.columns;
      target.required = architecture_.required_dtype(dialect_, slot);
      target.component = slot.component;
      kinds_[place.array] = architecture_.output_of(dialect_, slot);
    }
    target.pieces.push_back(
        {.tensor = found.tensor,
         .source_columns = found.assembly->columns,
         .rows = found.piece->rows,
         .columns = found.piece->columns,
         .view = compose(*undo, architecture_.convention(dialect_, slot), canonical.rows(), canonical.columns()),
         .target_row = place.piece.rows.begin,
         .target_rows = place.piece.rows.size(),
         .target_columns = place.piece.columns,
         .canonical = architecture_.canonical_name(slot)});
    if (slot.component == Component::mtp) result_.mtp_layers = std::max(result_.mtp_layers, slot.layer + 1);
  }

  /// The order in which llama.cpp's converter writes: by shard, and inside a shard by the name in the source.
  void finish_outputs() {
    std::map<OutputKind, OutputDraft> drafts;
    for (auto& [array, target] : targets_) {
      std::ranges::sort(target.pieces, {}, [](const TargetPiece& p) {
        return std::pair(p.target_row, p.target_columns ? p.target_columns->runs().front().begin : 0);
      });
      check_tiling(target);
      OutputDraft& draft = drafts[kinds_[array]];
      draft.kind = kinds_[array];
      draft.targets.push_back(std::move(target));
    }
    for (auto& [kind, draft] : drafts) {
      std::ranges::sort(draft.targets, {}, [&](const Target& t) {
        const Tensor& first = *t.pieces.front().tensor;
        return std::tuple(first_file(source_, first), std::string_view(first.name), std::string_view(t.name));
      });
      result_.outputs.push_back(std::move(draft));
    }
  }

  void check_complete() const {
    if (dialect_ != Dialect::gguf) return;
    std::vector<std::string> missing;
    bool text = false;
    bool vision = false;
    for (const auto& [slot, found] : slots_) {
      text = text || root(slot.component) == "text";
      vision = vision || slot.component == Component::vision;
    }
    for (const ExpectedSlot& expected : architecture_.expected()) {
      const Component component = expected.slot.component;
      const bool wanted = component == Component::vision ? vision
                          : component == Component::mtp  ? result_.mtp_layers > 0
                                                         : text;
      if (wanted && !slots_.contains(expected.slot)) missing.push_back(architecture_.canonical_name(expected.slot));
    }
    if (!missing.empty()) {
      throw Error(ErrorCode::malformed, "{} weights are missing that llama.cpp demands: {}", missing.size(),
                  list_names(missing))
          .at(source_.path);
    }
  }

  const Checkpoint& source_;
  const Architecture& architecture_;
  Dialect dialect_;
  Adaptation result_;
  Dropping dropping_;
  std::vector<Assembly> assemblies_;
  std::map<Slot, Found> slots_;
  std::map<std::string, Target> targets_;
  std::map<std::string, OutputKind> kinds_;
};

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

Adaptation adapt(const Checkpoint& source, const Architecture* architecture, Dialect dialect,
                 const ConvertOptions& options) {
  Adaptation result;
  const std::vector<std::string> corrected = low_rank_names(source);
  if (!corrected.empty() && !options.drop_eora) {
    throw refusal("the target cannot hold the low-rank (EoRA) factors of these modules", corrected,
                  "--drop eora leaves the factors out");
  }
  // An adapter file holds factors of weights, not weights, and does not tell the sizes that names are checked against.
  if (source.metadata.get_string("general.type") == "adapter") architecture = nullptr;
  if (source.dialect == dialect || architecture == nullptr) {
    if (source.dialect != dialect && dialect != Dialect::hf) {
      throw Error(ErrorCode::unsupported, "the architecture is not known, so its tensors have no {} names",
                  name(dialect))
          .at(source.path);
    }
    result.outputs.push_back({OutputKind::model, {}});
    Dropping dropping(options, result.left_out);
    for (const Tensor& tensor : source.tensors) {
      Target target = as_it_is(tensor);
      const auto assembly =
          architecture == nullptr ? std::nullopt : architecture->parse(dialect, tensor.name, tensor.shape);
      if (assembly && !assembly->pieces.empty()) {
        const Slot& slot = assembly->pieces.front().slot;
        if (dropping.drops(slot, tensor)) continue;
        target.component = slot.component;
        target.required = architecture->required_dtype(dialect, slot);
      }
      result.outputs.front().targets.push_back(std::move(target));
    }
  } else {
    result = Adapter(source, *architecture, dialect, options).run();
  }
  for (const std::string& name : corrected) result.left_out.push_back({name, "low-rank factors only, by --drop eora"});
  return result;
}

}  // namespace regauge
