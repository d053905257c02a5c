#include "ir/slot.h"

#include <array>

namespace regauge {

std::string_view name(Component component) {
  constexpr std::array<std::string_view, 12> kNames{"embedding", "attention", "deltanet", "mlp",    "experts", "router",
                                                    "norm",      "head",      "mtp",      "vision", "adapter", "other"};
  return kNames.at(static_cast<std::size_t>(component));
}

std::string_view root(Component component) {
  switch (component) {
    case Component::mtp: return "mtp";
    case Component::vision: return "vision";
    case Component::adapter: return "adapter";
    default: return "text";
  }
}

}  // namespace regauge
