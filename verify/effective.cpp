#include "verify/effective.h"

#include "base/error.h"

namespace regauge {
namespace {

Target effective_slot(const Architecture& architecture, const Tensor& tensor, const Assembly& assembly,
                      const Piece& piece) {
  const Shape shape = architecture.slot_shape(piece.slot);
  const auto undo = inverse(architecture.stored_convention(piece.slot));
  if (!undo) throw Error(ErrorCode::internal, "a convention that drops rows").tensor(tensor.name);
  Target target;
  target.name = architecture.canonical_name(piece.slot);
  target.shape = shape;
  target.rows = shape.rows();
  target.columns = shape.columns();
  target.component = piece.slot.component;
  TargetPiece from;
  from.tensor = &tensor;
  from.source_columns = assembly.columns;
  from.rows = piece.rows;
  from.columns = piece.columns;
  from.view = compose(*undo, architecture.effective(piece.slot), target.rows, target.columns);
  from.target_rows = target.rows;
  from.canonical = target.name;
  target.pieces.push_back(std::move(from));
  return target;
}

}  // namespace

std::map<std::string, Target> effective_form(std::span<const OpenedPath> paths) {
  std::map<std::string, Target> model;
  const auto add = [&](Target target, const Tensor& tensor) {
    const std::string name = target.name;
    if (!model.emplace(name, std::move(target)).second) {
      throw Error(ErrorCode::malformed, "'{}' is stored twice", name).tensor(tensor.name);
    }
  };
  for (const OpenedPath& path : paths) {
    for (const Tensor& tensor : path.checkpoint->tensors) {
      const auto assembly = path.architecture == nullptr
                                ? std::nullopt
                                : path.architecture->parse(path.checkpoint->dialect, tensor.name, tensor.shape);
      if (!assembly) {
        add(as_it_is(tensor), tensor);
        continue;
      }
      for (const Piece& piece : assembly->pieces)
        add(effective_slot(*path.architecture, tensor, *assembly, piece), tensor);
    }
  }
  return model;
}

}  // namespace regauge
