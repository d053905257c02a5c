#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace regauge {

/// What became of a tensor's numbers, best first.
enum class Fidelity : std::uint8_t {
  bytes,        ///< the same stored bytes
  values,       ///< effective forms equal as numbers: -0 = +0, any NaN = any NaN
  rounded,      ///< codes kept, or dense values rounded; the worst error is known
  requantized,  ///< codes changed; the error is measured
  left_out,     ///< not in any output, for a stated reason
};

std::string_view name(Fidelity fidelity);
std::optional<Fidelity> fidelity_from_name(std::string_view name);

/// How one tensor gets to its target.
enum class Route : std::uint8_t { copy, repack, reencode };

std::string_view name(Route route);

}  // namespace regauge
