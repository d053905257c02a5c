#include "models/mtp_draft.h"

#include <algorithm>

namespace regauge {
namespace {

template <typename Predicate>
bool any_slot(const Checkpoint& checkpoint, const Architecture& architecture, Predicate wanted) {
  return std::ranges::any_of(checkpoint.tensors, [&](const Tensor& tensor) {
    const auto assembly = architecture.parse(checkpoint.dialect, tensor.name, tensor.shape);
    return assembly && std::ranges::any_of(assembly->pieces, [&](const Piece& piece) { return wanted(piece.slot); });
  });
}

}  // namespace

bool has_mtp_tensors(const Checkpoint& checkpoint, const Architecture& architecture) {
  return any_slot(checkpoint, architecture, [](const Slot& slot) { return slot.component == Component::mtp; });
}

bool is_mtp_draft(const Checkpoint& checkpoint, const Architecture& architecture) {
  if (checkpoint.dialect != Dialect::gguf || !has_mtp_tensors(checkpoint, architecture)) return false;
  return !any_slot(checkpoint, architecture,
                   [](const Slot& slot) { return slot.layer >= 0 && slot.component != Component::mtp; });
}

}  // namespace regauge
