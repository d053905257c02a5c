#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/checkpoint.h"
#include "ir/tensor.h"

namespace regauge::inspect {

/// What the values of one tensor look like, as the reference decoder makes them f32 (wider types are rounded to it), in the
/// stored convention and without low-rank factors. Sums are f64 in row order.
struct TensorStats {
  static constexpr std::size_t kBins = 64;

  std::size_t tensor = 0;  ///< index into Checkpoint::tensors
  std::uint64_t count = 0;
  std::uint64_t zeros = 0;  ///< of either sign
  std::uint64_t negative_zeros = 0;
  std::uint64_t nan = 0;
  std::uint64_t infinite = 0;
  // Of the finite values; all 0 when there is none.
  std::uint64_t finite = 0;
  double min = 0;
  double max = 0;
  double mean = 0;
  double deviation = 0;  ///< of the population, from a second pass

  /// Finite values in kBins intervals of equal width from min to max; all in the first when min == max.
  std::array<std::uint64_t, kBins> histogram{};
  /// How often each stored code occurs, from code 0 on; empty when `codes_missing` says why.
  std::vector<std::uint64_t> codes;
  std::string codes_missing;
};

/// Reads the tensor's data twice. Throws Error{unsupported} when no values can be made of its encoding.
TensorStats measure(const Checkpoint& checkpoint, std::size_t tensor);

/// The tensor of that name; failing that, the only one whose name contains it. Throws Error{not_found} naming some that
/// come near.
std::size_t find_tensor(const Checkpoint& checkpoint, std::string_view name);

}  // namespace regauge::inspect
