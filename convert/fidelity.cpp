#include "convert/fidelity.h"

#include <array>

namespace regauge {
namespace {

constexpr std::array<std::string_view, 5> kFidelities{"bytes", "values", "rounded", "requantized", "left_out"};

}  // namespace

std::string_view name(Fidelity fidelity) { return kFidelities.at(static_cast<std::size_t>(fidelity)); }

std::optional<Fidelity> fidelity_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kFidelities.size(); ++i) {
    if (kFidelities[i] == name) return static_cast<Fidelity>(i);
  }
  return std::nullopt;
}

std::string_view name(Route route) {
  switch (route) {
    case Route::copy: return "copy";
    case Route::repack: return "repack";
    case Route::reencode: return "reencode";
  }
  return "?";
}

}  // namespace regauge
