#include "ir/tensor.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"

namespace regauge {

std::string element_name(const StoredArray& array) {
  if (const auto* dtype = std::get_if<DType>(&array.element)) return std::string(name(*dtype));
  if (const auto* block = std::get_if<BlockType>(&array.element)) return std::string(name(*block));
  return "opaque " + std::get<Opaque>(array.element).origin;
}

std::string_view name(PartId id) {
  constexpr std::array<std::string_view, 10> kNames{"values",       "codes",       "scales", "zeros",     "biases",
                                                    "global_scale", "group_index", "blocks", "lowrank_a", "lowrank_b"};
  return kNames.at(static_cast<std::size_t>(id));
}

const Part* Tensor::find(PartId id) const noexcept {
  const auto found = std::ranges::find(parts, id, &Part::id);
  return found == parts.end() ? nullptr : &*found;
}

const Part& Tensor::part(PartId id) const {
  const Part* found = find(id);
  if (found == nullptr) throw Error(ErrorCode::internal, "no part '{}'", regauge::name(id)).tensor(name);
  return *found;
}

std::int64_t Tensor::row_quantum() const {
  std::int64_t quantum = 1;
  for (const Part& p : parts) {
    if (p.id != PartId::lowrank_a && p.id != PartId::group_index && p.id != PartId::global_scale) {
      quantum = std::lcm(quantum, p.rows->row_quantum());
    }
  }
  return quantum;
}

}  // namespace regauge
