#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "convert/adapt.h"

namespace regauge {

/// How many differences are how large, by binary orders of magnitude.
struct ErrorHistogram {
  static constexpr int kLowest = -48;  ///< bin 0 has what is below 2^(kLowest + 1) as well
  static constexpr std::size_t kBins = 64;
  std::array<std::uint64_t, kBins>
      counts{};  ///< bin b: |d| in [2^(kLowest + b), 2^(kLowest + b + 1)); the last has all above

  void add(double error);
  void merge(const ErrorHistogram& other);
};

/// How the values of one tensor differ from another's, as numbers: -0 equals +0, any NaN any NaN. Sums run over elements
/// that are finite in both, in an order that does not depend on threads.
struct Measured {
  std::uint64_t elements = 0;
  std::uint64_t different = 0;
  std::uint64_t signed_zeros = 0;  ///< equal as numbers, zeros of different sign
  std::uint64_t unmatched = 0;     ///< of the different ones: not finite on one side at least
  double worst = 0;                ///< largest absolute difference; infinity where one side is not finite
  std::uint64_t worst_at = 0;      ///< its element, row-major; the first of several
  double worst_first = 0;
  double worst_second = 0;
  std::uint64_t worst_ulps = 0;  ///< largest distance in steps of f32, where both are finite
  double worst_steps = 0;        ///< largest difference in units of the quantization step
  double sum_steps = 0;          ///< of squared differences in those units
  std::uint64_t stepped = 0;     ///< elements that have a step, and are finite in both
  ErrorHistogram errors;         ///< of the different elements that are finite in both
  double sum_error = 0;          ///< of squared differences
  double sum_first = 0;          ///< of squares
  double sum_second = 0;
  double sum_product = 0;

  bool equal() const { return different == 0; }
  double rmse() const;
  /// Root mean square of the differences in steps, over the elements that have one; 0 without any.
  double rms_steps() const;
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
/// one for each core). Numbers that f32 does not hold (F64, wide integers) are compared as they are. The quantization step is
/// the first's scale where it has integer codes with one, else the second's. Throws what reading throws, and Error{io} when `cancel` becomes true.
std::vector<Measured> measure(std::span<const TargetPair> pairs, int threads = 0, const MeasureProgress& progress = {},
                              const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
