#include <fmt/format.h>

#include "base/error.h"
#include "convert/recipe/recipe.h"

namespace regauge {
Recipe layout_of(const Checkpoint& other, const Architecture* architecture) {
  if (architecture == nullptr)
    throw Error(ErrorCode::unsupported, "its architecture is unknown, so its tensors cannot be matched").at(other.path);
  Recipe recipe;
  recipe.name = fmt::format("like {}", other.path);
  for (const Tensor& tensor : other.tensors) {
    const auto assembly = architecture->parse(other.dialect, tensor.name, tensor.shape);
    const auto wish = wish_like(tensor.encoding, tensor.shape.columns());
    if (!assembly || !wish || tensor.shape.rank() < 2) continue;
    for (const Piece& piece : assembly->pieces) recipe.layout.emplace(architecture->canonical_name(piece.slot), *wish);
  }
  return recipe;
}

}  // namespace regauge
