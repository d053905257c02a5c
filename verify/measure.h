#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "convert/adapt.h"

namespace regauge {

/// How the values of one tensor differ from another's, as numbers: -0 equals +0, any NaN any NaN. Sums run over elements
/// that are finite in both, in an order that does not depend on threads.
struct Measured {
  std::uint64_t elements = 0;
  std::uint64_t different = 0;
  std::uint64_t signed_zeros = 0;  ///< equal as numbers, zeros of different sign
  std::uint64_t unmatched = 0;     ///< of the different ones: not finite on one side at least
  double worst = 0;                ///< largest absolute difference; infinity where one side is not finite
  std::uint64_t worst_at = 0;      ///< its element, row-major; the first of several
  float worst_first = 0;
  float worst_second = 0;
  std::uint64_t worst_ulps = 0;  ///< largest distance in steps of f32, where both are finite
  double sum_error = 0;          ///< of squared differences
  double sum_first = 0;          ///< of squares
  double sum_second = 0;
  double sum_product = 0;

  bool equal() const { return different == 0; }
  double rmse() const;
  /// Frobenius norm of the difference over that of the second; 0 when both are 0, infinity when only the second is.
  double relative_error() const;
  /// In dB, of the second over the difference; infinity when there is none.
  double signal_to_noise() const;
  double cosine() const;
  /// Takes what came of later elements, `offset` behind this one's.
  void merge(const Measured& later, std::uint64_t offset);
};

struct TargetPair {
  const Target* first = nullptr;
  const Target* second = nullptr;  ///< as many rows and columns
};

/// Values compared so far, and all that will be; from any thread but never from two at once.
using MeasureProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Measures pairs of targets of which values can be made, band by band through the dequant reference, on `threads` workers (0:
/// one for each core). Throws what reading throws, and Error{io} when `cancel` becomes true.
std::vector<Measured> measure(std::span<const TargetPair> pairs, int threads = 0, const MeasureProgress& progress = {},
                              const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
