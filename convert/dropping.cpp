#include "convert/dropping.h"

#include <utility>

#include <fmt/format.h>

#include "convert/refusal.h"

namespace regauge {

bool Dropping::drops(const Slot& slot, const Tensor& tensor, const Architecture& architecture) {
  if (slot.component == Component::head && architecture.tied_head() && options_.drop_foreign)
    return leave(tensor, "a copy beside tied embeddings, by --drop foreign");
  if (slot.component == Component::vision && options_.drop_vision)
    return leave(tensor, "vision tower, by --drop vision");
  if (slot.component == Component::mtp && options_.drop_mtp) return leave(tensor, "MTP layer, by --drop mtp");
  return false;
}

void Dropping::foreign(const Tensor& tensor) {
  if (options_.drop_foreign) {
    leave(tensor, "not part of the architecture, by --drop foreign");
  } else {
    foreign_.push_back(tensor.name);
  }
}

void Dropping::check(Dialect dialect) const {
  if (!foreign_.empty()) {
    throw refusal("tensors that the architecture does not know have no name in the target", foreign_,
                  "--drop foreign leaves them out");
  }
  if (!no_place_.empty()) {
    throw refusal(fmt::format("the {} dialect has no place for these tensors", name(dialect)), no_place_,
                  "--drop vision or --drop mtp leaves a part out");
  }
}

bool Dropping::leave(const Tensor& tensor, std::string reason) {
  left_out_.push_back({tensor.name, std::move(reason), nullptr, std::nullopt});
  return true;
}

}  // namespace regauge
