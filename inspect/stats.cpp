#include "inspect/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include <fmt/format.h>

#include "base/error.h"
#include "inspect/bands.h"
#include "inspect/block_codes.h"
#include "inspect/findings.h"

namespace regauge::inspect {
namespace {

template <typename Visitor>
void for_each_value(const Tensor& tensor, Visitor&& visit) {
  for_each_value_band(tensor, [&visit](std::span<const float> values) {
    for (const float value : values) visit(value);
  });
}

void count_values(const Tensor& tensor, TensorStats& stats) {
  double sum = 0;
  stats.min = std::numeric_limits<double>::infinity();
  stats.max = -stats.min;
  for_each_value(tensor, [&](float value) {
    ++stats.count;
    if (std::isnan(value)) {
      ++stats.nan;
      return;
    }
    if (std::isinf(value)) {
      ++stats.infinite;
      return;
    }
    if (value == 0) {
      ++stats.zeros;
      if (std::signbit(value)) ++stats.negative_zeros;
    }
    const auto wide = static_cast<double>(value);
    stats.min = std::min(stats.min, wide);
    stats.max = std::max(stats.max, wide);
    sum += wide;
    ++stats.finite;
  });
  if (stats.finite == 0) {
    stats.min = stats.max = 0;
  } else {
    stats.mean = sum / static_cast<double>(stats.finite);
  }
}

void spread_values(const Tensor& tensor, TensorStats& stats) {
  if (stats.finite == 0) return;
  const double width = stats.max - stats.min;
  double squares = 0;
  for_each_value(tensor, [&](float value) {
    if (!std::isfinite(value)) return;
    const auto wide = static_cast<double>(value);
    squares += (wide - stats.mean) * (wide - stats.mean);
    std::size_t bin = 0;
    if (width > 0) {
      bin = static_cast<std::size_t>((wide - stats.min) / width * static_cast<double>(TensorStats::kBins));
      bin = std::min(bin, TensorStats::kBins - 1);
    }
    ++stats.histogram[bin];
  });
  stats.deviation = std::sqrt(squares / static_cast<double>(stats.finite));
}

void count_codes(const Tensor& tensor, TensorStats& stats) {
  if (const auto* grouped = std::get_if<Grouped>(&tensor.encoding)) {
    stats.codes.resize(std::size_t{1} << grouped->bits);
    for_each_band(*tensor.part(PartId::codes).rows, [&](std::span<const std::byte> codes) {
      for (const std::byte code : codes) ++stats.codes.at(std::to_integer<std::size_t>(code));
    });
    return;
  }
  const auto* blocked = std::get_if<Blocked>(&tensor.encoding);
  if (blocked == nullptr) {
    stats.codes_missing = "dense: values are stored as they are";
    return;
  }
  const auto layout = find_code_layout(blocked->type);
  if (!layout) {
    stats.codes_missing =
        fmt::format("the codes of {} blocks mean something only together with their scales of scales or codebooks",
                    name(blocked->type));
    return;
  }
  stats.codes.resize(std::size_t{1} << layout->bits);
  for_each_band(*tensor.part(PartId::blocks).rows, [&](std::span<const std::byte> blocks) {
    count_block_codes(blocked->type, *layout, blocks, stats.codes);
  });
}

}  // namespace

TensorStats measure(const Checkpoint& checkpoint, std::size_t tensor) {
  TensorStats stats;
  stats.tensor = tensor;
  const Tensor& subject = checkpoint.tensors.at(tensor);
  count_values(subject, stats);
  spread_values(subject, stats);
  count_codes(subject, stats);
  return stats;
}

std::size_t find_tensor(const Checkpoint& checkpoint, std::string_view name) {
  std::vector<std::size_t> near;
  for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
    const std::string& candidate = checkpoint.tensors[i].name;
    if (candidate == name) return i;
    if (candidate.find(name) != std::string::npos) near.push_back(i);
  }
  if (near.size() == 1) return near.front();
  if (near.empty()) {
    throw Error(ErrorCode::not_found, "no tensor has '{}' in its name; --tensors lists the names", name)
        .at(checkpoint.path);
  }
  throw Error(ErrorCode::not_found, "'{}' is not one tensor: {} names contain it, such as {}", name, near.size(),
              name_tensors(checkpoint, near, 3))
      .at(checkpoint.path);
}

}  // namespace regauge::inspect
