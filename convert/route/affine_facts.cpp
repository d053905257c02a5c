#include "convert/route/affine_facts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "base/half.h"
#include "convert/route/row_maker.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 4 << 20;
// Blocks are read for a few bytes of each, and what holds them should still be in the second-level cache then.
constexpr std::int64_t kBlockBandBytes = 1 << 20;

// Beyond any zero point that a format could store; also what NaN and infinities end as.
constexpr double kFarOff = 1e6;

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

/// Calls read(rows, band, raw), then visit(band, rows), for the rows of a piece until that says no.
template <typename Read, typename Visit>
void for_each_band(const AffineTensor& tensor, RowRange rows, std::int64_t row_bytes, Read read, Visit visit) {
  // Kept for the next tensor: a thread that plans comes here hundreds of times.
  thread_local AffineBand band;
  thread_local std::vector<std::byte> raw;
  const std::int64_t budget = tensor.is_blocked() ? kBlockBandBytes : kBandBytes;
  const std::int64_t height = std::max<std::int64_t>(rows_within(budget, row_bytes, rows.size()), 1);
  for (std::int64_t row = rows.begin; row < rows.end; row += height) {
    const RowRange range{row, std::min(rows.end, row + height)};
    read(range, band, raw);
    if (!visit(band, range.size())) return;
  }
}

/// Bytes of a row of scales and offsets, with the blocks that hold them where there are such.
std::int64_t parameter_bytes(const AffineTensor& tensor) {
  return tensor.groups() * 12 + (tensor.is_blocked() ? tensor.columns() : 0);
}

/// Everything about the scales and offsets of groups, in whatever order they come. Sixteen at a time and without branches, in
/// the form that compilers turn into vectors: a large model has hundreds of millions of them.
class GroupLook {
 public:
  explicit GroupLook(int bits)
      : top_code_(static_cast<float>((1 << bits) - 1)), middle_(static_cast<double>(std::int64_t{1} << (bits - 1))) {}

  /// Groups with zero points.
  void add(std::span<const float> scales, std::span<const std::uint8_t> zeros) {
    for_each_run(
        scales,
        [&](std::size_t i, std::size_t from, Run& run) {
          run.offsets[i] = -scales[from] * static_cast<float>(zeros[from]);
          lowest_[i] = std::min(lowest_[i], static_cast<double>(zeros[from]));
          highest_[i] = std::max(highest_[i], static_cast<double>(zeros[from]));
        },
        [](const Run&) {});
  }

  /// Groups with biases.
  void add(std::span<const float> scales, std::span<const float> biases) {
    for_each_run(
        scales, [&](std::size_t i, std::size_t from, Run& run) { run.offsets[i] = biases[from]; },
        [this](const Run& run) { look_for_zeros(run); });
  }

  void put_into(AffineFacts& facts) const {
    std::uint32_t found = 0;
    for (const std::uint32_t faults : faults_) found |= faults;
    facts.finite = facts.finite && (found & kNotFinite) == 0;
    facts.scales_fit_f16 = facts.scales_fit_f16 && (found & kScaleNotF16) == 0;
    facts.scales_fit_bf16 = facts.scales_fit_bf16 && (found & kScaleNotBf16) == 0;
    facts.biases_fit_f16 = facts.biases_fit_f16 && (found & kOffsetNotF16) == 0;
    facts.biases_fit_bf16 = facts.biases_fit_bf16 && (found & kOffsetNotBf16) == 0;
    facts.rounded_biases_fit_f16 = facts.rounded_biases_fit_f16 && (found & kTooLarge) == 0;
    facts.zeros_exist = facts.zeros_exist && (found & kNoZero) == 0;
    if (!seen_) return;
    const IntRange zeros{static_cast<std::int64_t>(*std::ranges::min_element(lowest_)),
                         static_cast<std::int64_t>(*std::ranges::max_element(highest_))};
    facts.zeros.include(zeros);
  }

 private:
  static constexpr std::size_t kRun = 16;
  struct Run {
    std::array<float, kRun> scales;
    std::array<float, kRun> offsets;
  };

  enum Fault : std::uint32_t {
    kNotFinite = 1,
    kScaleNotF16 = 2,
    kScaleNotBf16 = 4,
    kOffsetNotF16 = 8,
    kOffsetNotBf16 = 16,
    kTooLarge = 32,  // beyond F16 even when rounded
    kNoZero = 64,
  };

  /// Calls fill(place, group, run) for sixteen groups at a time, then looks at them; the last one fills up what is missing,
  /// which changes nothing.
  template <typename Fill, typename Look>
  void for_each_run(std::span<const float> scales, Fill fill, Look look) {
    for (std::size_t at = 0; at < scales.size(); at += kRun) {
      const std::size_t last = std::min(kRun, scales.size() - at) - 1;
      Run run{};
      for (std::size_t i = 0; i < kRun; ++i) {
        const std::size_t from = at + std::min(i, last);
        run.scales[i] = scales[from];
        fill(i, from, run);
      }
      look_at(run);
      look(run);
    }
    seen_ = seen_ || !scales.empty();
  }

  static std::uint32_t magnitude(float value) { return std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU; }
  static std::uint32_t flag(bool is, Fault fault) { return is ? fault : 0U; }

  /// Whether a number is the same after the way to F16 and back; a NaN is a NaN.
  static bool fits_f16(float value) {
    const std::uint32_t size = magnitude(value);
    const bool is_special = size >= 0x7F800000U;
    const bool is_small = size < 0x38800000U;  // 2^-14, below which the step stays 2^-24
    const bool is_normal = size >= 0x38800000U && size <= 0x477FE000U;
    // Adding and taking away 1.5 * 2^23 leaves whole numbers below 2^22 alone and rounds all others.
    constexpr float kWhole = 12582912.0F;
    const float steps = value * 16777216.0F;
    const bool is_whole = (steps + kWhole) - kWhole == steps;
    return is_special | (is_small & is_whole) | (is_normal & ((size & 0x1FFFU) == 0));
  }
  static bool fits_bf16(float value) { return (std::bit_cast<std::uint32_t>(value) & 0xFFFFU) == 0; }

  void look_at(const Run& run) {
    for (std::size_t i = 0; i < kRun; ++i) {
      const float scale = run.scales[i];
      const float offset = run.offsets[i];
      const bool is_infinite = (magnitude(scale * top_code_) >= 0x7F800000U) | (magnitude(offset) >= 0x7F800000U);
      const bool is_large = (magnitude(scale) >= 0x477FF000U) | (magnitude(offset) >= 0x477FF000U);
      // A zero of either sign is the same offset.
      const bool is_zero = offset == 0.0F;
      faults_[i] |= flag(is_infinite, kNotFinite) | flag(is_large, kTooLarge) | flag(!fits_f16(scale), kScaleNotF16) |
                    flag(!fits_bf16(scale), kScaleNotBf16) | flag(!is_zero & !fits_f16(offset), kOffsetNotF16) |
                    flag(!is_zero & !fits_bf16(offset), kOffsetNotBf16);
    }
  }

  /// whole_zero() of each.
  void look_for_zeros(const Run& run) {
    for (std::size_t i = 0; i < kRun; ++i) {
      const auto scale = static_cast<double>(run.scales[i]);
      const auto bias = static_cast<double>(run.offsets[i]);
      const double ratio = -bias / scale;
      const bool is_near = std::abs(ratio) < kFarOff;
      // As with kWhole above, then down where that rounded up: floor(ratio + 0.5).
      constexpr double kWhole = 6755399441055744.0;
      const double above = ratio + 0.5;
      const double rounded = (above + kWhole) - kWhole;
      const double nearest = rounded - (rounded > above ? 1.0 : 0.0);
      const bool no_scale = scale == 0.0;
      const bool is_exact = no_scale ? bias == 0.0 : is_near & (nearest * scale == -bias);
      const double zero = no_scale ? middle_ : is_near ? nearest : kFarOff;
      faults_[i] |= flag(!is_exact, kNoZero);
      lowest_[i] = std::min(lowest_[i], zero);
      highest_[i] = std::max(highest_[i], zero);
    }
  }

  float top_code_;
  double middle_;
  bool seen_ = false;
  std::array<std::uint32_t, kRun> faults_{};
  std::array<double, kRun> lowest_ = filled(1e300);
  std::array<double, kRun> highest_ = filled(-1e300);

  static std::array<double, kRun> filled(double value) {
    std::array<double, kRun> all{};
    all.fill(value);
    return all;
  }
};

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
    source.columns_.push_back(map);
    if (!map) {
      source.groups_.push_back(of_source);
      continue;
    }
    std::vector<std::int32_t> groups;
    groups.reserve(static_cast<std::size_t>(map->size()));
    for (const std::int64_t column : map->indices()) groups.push_back(of_source[static_cast<std::size_t>(column)]);
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
    const bool zeros = tensor.has_zeros();
    std::size_t run = std::bit_ceil(static_cast<std::size_t>(std::max<std::int64_t>(tensor.groups(), 1)));
    const auto read = [&](RowRange rows, AffineBand& band, std::vector<std::byte>& raw) {
      tensor.read_distinct(rows, band, raw, run);
    };
    GroupLook look(tensor.bits());
    for_each_band(tensor, target_->pieces[p].rows, parameter_bytes(tensor), read,
                  [&](const AffineBand& band, std::int64_t /*rows*/) {
                    if (zeros) {
                      look.add(band.scales, std::span(band.zeros));
                    } else {
                      look.add(band.scales, std::span(band.biases));
                    }
                    return true;
                  });
    look.put_into(facts);
    equal_groups.push_back(run);
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
    const auto read = [&](RowRange rows, AffineBand& band, std::vector<std::byte>& raw) {
      tensor.read(rows, band, raw);
    };
    const std::int64_t row_bytes = tensor.groups() * 12 + tensor.columns();
    for_each_band(tensor, target_->pieces[p].rows, row_bytes, read, [&](const AffineBand& band, std::int64_t rows) {
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
  const auto read = [&](RowRange rows, AffineBand& band, std::vector<std::byte>& raw) {
    tensor.read_parameters(rows, band, raw);
  };
  const auto compare = [&](const AffineBand& band, std::int64_t rows) {
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
  };
  // As a rule either the first rows differ or none do.
  constexpr std::int64_t kFirstRows = 16;
  const RowRange all = target_->pieces[piece].rows;
  const std::int64_t second = std::min(all.begin + kFirstRows, all.end);
  for_each_band(tensor, {all.begin, second}, parameter_bytes(tensor), read, compare);
  if (equal) for_each_band(tensor, {second, all.end}, parameter_bytes(tensor), read, compare);
  return equal;
}

}  // namespace regauge
