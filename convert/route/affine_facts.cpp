#include "convert/route/affine_facts.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "base/half.h"
#include "convert/route/row_maker.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 4 << 20;

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

/// A number after the way to F16 and back.
struct ThroughF16 {
  explicit ThroughF16(float value) : back(f16_to_f32(f32_to_f16(value))) {
    fits = std::isnan(value) || std::bit_cast<std::uint32_t>(back) == std::bit_cast<std::uint32_t>(value);
  }
  float back;
  bool fits;
};

bool fits_bf16(float value) { return (std::bit_cast<std::uint32_t>(value) & 0xFFFFU) == 0; }

/// Calls visit(band, rows) for the rows of a piece, parameters only or with the codes.
template <typename Visit>
void for_each_band(const AffineTensor& tensor, RowRange rows, bool with_codes, Visit visit) {
  const std::int64_t row_bytes = tensor.groups() * 12 + (with_codes || tensor.is_blocked() ? tensor.columns() : 0);
  const std::int64_t height = std::max<std::int64_t>(rows_within(kBandBytes, row_bytes, rows.size()), 1);
  AffineBand band;
  std::vector<std::byte> raw;
  for (std::int64_t row = rows.begin; row < rows.end; row += height) {
    const RowRange range{row, std::min(rows.end, row + height)};
    if (with_codes) {
      tensor.read(range, band, raw);
    } else {
      tensor.read_parameters(range, band, raw);
    }
    if (!visit(band, range.size())) return;
  }
}

/// Everything about one group's scale and offset.
void look_at(AffineFacts& facts, float scale, float bias, bool zero_given, std::int64_t zero, float top_code,
             std::int64_t middle) {
  const float product = scale * top_code;
  const float offset = zero_given ? -scale * static_cast<float>(zero) : bias;
  facts.finite = facts.finite && std::isfinite(product) && std::isfinite(offset);
  const ThroughF16 f16_scale(scale);
  const ThroughF16 f16_offset(offset);
  facts.scales_fit_f16 = facts.scales_fit_f16 && f16_scale.fits;
  facts.scales_fit_bf16 = facts.scales_fit_bf16 && fits_bf16(scale);
  // A zero of either sign is the same bias.
  facts.biases_fit_f16 = facts.biases_fit_f16 && (offset == 0.0F || f16_offset.fits);
  facts.biases_fit_bf16 = facts.biases_fit_bf16 && (offset == 0.0F || fits_bf16(offset));
  facts.rounded_biases_fit_f16 =
      facts.rounded_biases_fit_f16 && std::isfinite(f16_scale.back) && std::isfinite(f16_offset.back);
  if (zero_given) {
    facts.zeros.include(zero);
    facts.nearest_zeros.include(zero);
    return;
  }
  const WholeZero whole = whole_zero(scale, bias, middle);
  facts.zeros_exist = facts.zeros_exist && whole.exact;
  facts.zeros.include(whole.value);
  facts.nearest_zeros.include(whole.value);
}

/// Columns of one group that lie together.
struct CodeRun {
  std::size_t begin = 0;
  std::size_t size = 0;
  std::size_t group = 0;
};

std::vector<CodeRun> runs_of(const std::vector<std::int32_t>& groups) {
  std::vector<CodeRun> runs;
  for (std::size_t c = 0; c < groups.size(); ++c) {
    if (c == 0 || groups[c] != groups[c - 1]) runs.push_back({c, 0, static_cast<std::size_t>(groups[c])});
    ++runs.back().size;
  }
  return runs;
}

/// Width of equal runs of columns that share a group, 0 when there is none: seen in target order, where each run must be
/// a group of its own.
std::int64_t width_in_target(const std::vector<std::int32_t>& groups) {
  const auto columns = static_cast<std::int64_t>(groups.size());
  std::int64_t width = 0;
  while (width < columns && groups[static_cast<std::size_t>(width)] == groups[0]) ++width;
  if (width == 0) return 0;
  std::vector<std::int32_t> seen;
  for (std::int64_t begin = 0; begin < columns; begin += width) {
    const std::int32_t group = groups[static_cast<std::size_t>(begin)];
    for (std::int64_t c = begin; c < std::min(columns, begin + width); ++c) {
      if (groups[static_cast<std::size_t>(c)] != group) return 0;
    }
    seen.push_back(group);
  }
  std::ranges::sort(seen);
  return std::ranges::adjacent_find(seen) == seen.end() ? width : 0;
}

}  // namespace

WholeZero whole_zero(float scale, float bias, std::int64_t any) {
  if (scale == 0.0F) return {any, bias == 0.0F};
  const double ratio = -static_cast<double>(bias) / static_cast<double>(scale);
  // Beyond any zero point that a format could store; also what NaN and infinities end as.
  constexpr double kFarOff = 1e6;
  if (!(std::abs(ratio) < kFarOff)) return {static_cast<std::int64_t>(kFarOff), false};
  // floor(ratio + 0.5): the conversion truncates.
  const double above = ratio + 0.5;
  auto nearest = static_cast<std::int64_t>(above);
  if (static_cast<double>(nearest) > above) --nearest;
  // Both factors are exact in f64 and so is their product: 24 + 20 bits.
  const bool exact = static_cast<double>(nearest) * static_cast<double>(scale) == -static_cast<double>(bias);
  return {nearest, exact};
}

std::variant<AffineSource, std::string> AffineSource::of(const Target& target) {
  AffineSource source;
  source.target_ = &target;
  std::vector<const Tensor*> tensors;
  for (const TargetPiece& piece : target.pieces) {
    if (piece.view.elementwise != Elementwise::none) return std::string("the convention changes its values");
    if (piece.target_columns) return std::string("its parts interleave within rows");
    if (piece.source_columns != piece.tensor->shape.columns())
      return std::string("its rows are parts of the source's rows");
    tensors.push_back(piece.tensor);
  }
  auto views = affine_tensors(tensors);
  if (auto* reason = std::get_if<std::string>(&views)) return std::move(*reason);
  source.tensors_ = std::move(std::get<std::vector<AffineTensor>>(views));
  for (std::size_t p = 0; p < target.pieces.size(); ++p) {
    const auto& of_source = source.tensors_[p].group_of_column();
    const auto map = source_columns(target.pieces[p]);
    source.orders_.push_back(map ? map->indices() : std::vector<std::int64_t>());
    if (!map) {
      source.groups_.push_back(of_source);
      continue;
    }
    std::vector<std::int32_t> groups;
    groups.reserve(static_cast<std::size_t>(map->size()));
    for (const std::int64_t column : source.orders_.back())
      groups.push_back(of_source[static_cast<std::size_t>(column)]);
    source.groups_.push_back(std::move(groups));
  }
  return source;
}

AffineFacts AffineSource::facts() const {
  AffineFacts facts;
  std::vector<std::size_t> equal_groups;
  facts.own_width = tensors_.empty() ? 0 : width_in_target(groups_.front());
  for (std::size_t p = 0; p < tensors_.size(); ++p) {
    const AffineTensor& tensor = tensors_[p];
    facts.bits = std::max(facts.bits, tensor.bits());
    facts.zeros_given = facts.zeros_given && tensor.has_zeros();
    facts.blocked = facts.blocked || tensor.is_blocked();
    if (tensor.parameter_dtype() != DType::f16) {
      facts.widest = facts.widest == DType::f16 || facts.widest == tensor.parameter_dtype() ? tensor.parameter_dtype()
                                                                                            : DType::f32;
    }
    if (width_in_target(groups_[p]) != facts.own_width) facts.own_width = 0;
    const auto top = static_cast<float>((1 << tensor.bits()) - 1);
    const std::int64_t middle = std::int64_t{1} << (tensor.bits() - 1);
    const bool zeros = tensor.has_zeros();
    std::size_t equal = std::size_t{1} << 62;
    for_each_band(tensor, target_->pieces[p].rows, false, [&](const AffineBand& band, std::int64_t rows) {
      const std::size_t per_row = band.scales.size() / static_cast<std::size_t>(rows);
      for (std::size_t g = 0; g < band.scales.size(); ++g) {
        // Blocks repeat what a larger group of their source had.
        if (g != 0 && same_bits(band.scales[g], band.scales[g - 1]) &&
            (zeros ? band.zeros[g] == band.zeros[g - 1] : same_bits(band.biases[g], band.biases[g - 1]))) {
          continue;
        }
        const std::size_t in_row = g % per_row;
        if (in_row != 0) equal = std::min(equal, in_row & -in_row);
        look_at(facts, band.scales[g], zeros ? 0.0F : band.biases[g], zeros, zeros ? band.zeros[g] : 0, top, middle);
      }
      return true;
    });
    equal_groups.push_back(equal);
  }
  equal_groups_ = std::move(equal_groups);
  facts.contiguous = facts.own_width != 0;
  return facts;
}

IntRange AffineSource::differences() const {
  IntRange range;
  for (std::size_t p = 0; p < tensors_.size(); ++p) {
    const AffineTensor& tensor = tensors_[p];
    const std::vector<CodeRun> runs = runs_of(tensor.group_of_column());
    const auto columns = static_cast<std::size_t>(tensor.columns());
    const std::int64_t middle = std::int64_t{1} << (tensor.bits() - 1);
    for_each_band(tensor, target_->pieces[p].rows, true, [&](const AffineBand& band, std::int64_t rows) {
      const std::size_t per_row = band.scales.size() / static_cast<std::size_t>(rows);
      for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
        for (const CodeRun& run : runs) {
          const auto codes = std::span(band.codes).subspan(row * columns + run.begin, run.size);
          const std::size_t at = row * per_row + run.group;
          const std::int64_t zero =
              tensor.has_zeros() ? band.zeros[at] : whole_zero(band.scales[at], band.biases[at], middle).value;
          std::uint8_t low = 0xFF;
          std::uint8_t high = 0;
          for (const std::uint8_t code : codes) {
            low = std::min(low, code);
            high = std::max(high, code);
          }
          range.include(low - zero);
          range.include(high - zero);
        }
      }
      return true;
    });
  }
  return range;
}

std::optional<GroupMap> AffineSource::groups_of(std::int64_t width) const {
  if (width < 1 || target_->columns % width != 0) return std::nullopt;
  GroupMap map;
  map.width = width;
  for (std::size_t p = 0; p < tensors_.size(); ++p) {
    const auto& groups = groups_[p];
    std::vector<std::int32_t>& first = map.source_group.emplace_back();
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
    for (std::size_t begin = 0; begin < groups.size(); begin += static_cast<std::size_t>(width)) {
      const std::int32_t leader = groups[begin];
      first.push_back(leader);
      for (std::size_t c = begin + 1; c < begin + static_cast<std::size_t>(width); ++c) {
        if (groups[c] != leader && groups[c] != groups[c - 1]) pairs.emplace_back(leader, groups[c]);
      }
    }
    std::ranges::sort(pairs);
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    if (!pairs.empty() && !equal_everywhere(p, pairs)) return std::nullopt;
  }
  return map;
}

bool AffineSource::equal_everywhere(std::size_t piece,
                                    const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs) const {
  const AffineTensor& tensor = tensors_[piece];
  if (!equal_groups_.empty()) {
    const std::size_t run = equal_groups_[piece];
    const auto known = [&](const std::pair<std::int32_t, std::int32_t>& pair) {
      return static_cast<std::size_t>(pair.first) / run == static_cast<std::size_t>(pair.second) / run;
    };
    if (std::ranges::all_of(pairs, known)) return true;
  }
  bool equal = true;
  for_each_band(tensor, target_->pieces[piece].rows, false, [&](const AffineBand& band, std::int64_t rows) {
    const std::size_t per_row = band.scales.size() / static_cast<std::size_t>(rows);
    for (std::size_t row = 0; equal && row < static_cast<std::size_t>(rows); ++row) {
      for (const auto& [left, right] : pairs) {
        const std::size_t a = row * per_row + static_cast<std::size_t>(left);
        const std::size_t b = row * per_row + static_cast<std::size_t>(right);
        equal = equal && same_bits(band.scales[a], band.scales[b]) &&
                (tensor.has_zeros() ? band.zeros[a] == band.zeros[b] : same_bits(band.biases[a], band.biases[b]));
      }
    }
    return equal;
  });
  return equal;
}

}  // namespace regauge
