#include "verify/compare.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "convert/route/reencode_dense.h"

namespace regauge {
namespace {

/// f32 values in order of size as integers, so that neighbours differ by one. Both zeros are 0.
std::int64_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto magnitude = static_cast<std::int64_t>(bits & 0x7FFFFFFFU);
  return (bits >> 31) != 0 ? -magnitude : magnitude;
}

void compare_values(std::span<const float> a, std::span<const float> b, TensorDifference& difference) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) == std::bit_cast<std::uint32_t>(b[i])) continue;
    if (a[i] == b[i]) {
      ++difference.signed_zeros;
      continue;
    }
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    ++difference.different;
    difference.worst = std::max(difference.worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    if (std::isfinite(a[i]) && std::isfinite(b[i])) {
      difference.worst_ulps =
          std::max(difference.worst_ulps, static_cast<std::uint64_t>(std::abs(ordered(a[i]) - ordered(b[i]))));
    }
  }
}

TensorDifference compare_tensor(const Target& first, const Target& second) {
  TensorDifference difference;
  difference.name = first.name;
  difference.component = first.component;
  difference.elements = static_cast<std::uint64_t>(first.rows * first.columns);
  const RowMakerPtr a = make_dense(first, DType::f32);
  const RowMakerPtr b = make_dense(second, DType::f32);
  const std::int64_t height = std::min(a->band_rows(), b->band_rows());
  Scratch scratch_a;
  Scratch scratch_b;
  std::vector<float> values_a;
  std::vector<float> values_b;
  Loss ignored;
  for (std::int64_t row = 0; row < first.rows; row += height) {
    const RowRange band{row, std::min(first.rows, row + height)};
    values_a.resize(static_cast<std::size_t>(band.size() * first.columns));
    values_b.resize(values_a.size());
    const std::span<std::byte> bytes_a = std::as_writable_bytes(std::span(values_a));
    const std::span<std::byte> bytes_b = std::as_writable_bytes(std::span(values_b));
    a->make(band, std::span(&bytes_a, 1), scratch_a, ignored);
    b->make(band, std::span(&bytes_b, 1), scratch_b, ignored);
    compare_values(values_a, values_b, difference);
  }
  return difference;
}

}  // namespace

Comparison compare_values(const std::map<std::string, Target>& first, const std::map<std::string, Target>& second) {
  Comparison comparison;
  for (const auto& [name, target] : first) {
    const auto found = second.find(name);
    if (found == second.end()) {
      comparison.only_first.push_back(name);
    } else if (found->second.rows != target.rows || found->second.columns != target.columns) {
      comparison.other_shape.push_back(name);
    } else {
      comparison.tensors.push_back(compare_tensor(target, found->second));
    }
  }
  for (const auto& [name, target] : second) {
    if (!first.contains(name)) comparison.only_second.push_back(name);
  }
  return comparison;
}

}  // namespace regauge
