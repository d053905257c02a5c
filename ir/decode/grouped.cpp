#include "ir/decode/grouped.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "ir/decode/dense.h"

#define REGAUGE_INLINE __attribute__((always_inline)) inline

namespace regauge {
namespace {

// The largest e4m3 times the largest e2m1: what a global scale of that size stands for is 1.
// Source: ml-explore/mlx mlx/ops.cpp, fp_dequantize with a global scale.
constexpr float kGlobalScaleUnit = 448.0F * 6.0F;

F8Flavour f8_flavour(Flavour flavour) {
  switch (flavour) {
    case Flavour::mlx: return F8Flavour::mlx;
    case Flavour::ggml: return F8Flavour::ggml;
    case Flavour::ocp: break;
  }
  return F8Flavour::ocp;
}

/// A byte-sized scale is e8m0 in the mx modes (groups of 32) and e4m3 in nvfp4 (groups of 16).
bool scale_is_e8m0(const Grouped& encoding) {
  return encoding.scale == DType::f8_e8m0 || (encoding.scale == DType::u8 && encoding.group.cols == 32);
}

bool scale_is_e4m3(const Grouped& encoding) {
  return encoding.scale == DType::f8_e4m3 || (encoding.scale == DType::u8 && encoding.group.cols == 16);
}

void decode_scales(const Grouped& encoding, std::optional<float> global_scale, std::span<const std::byte> stored,
                   std::span<float> out) {
  const F8Flavour flavour = f8_flavour(encoding.flavour);
  const auto byte = [&](std::size_t i) { return std::to_integer<std::uint8_t>(stored[i]); };
  if (scale_is_e8m0(encoding)) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = f8_e8m0_to_f32(byte(i), flavour);
  } else if (scale_is_e4m3(encoding)) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = f8_e4m3_to_f32(byte(i), flavour);
  } else {
    decode_dense(encoding.scale, stored, out);
  }
  if (global_scale) {
    const float unit = *global_scale / kGlobalScaleUnit;
    for (float& scale : out) scale *= unit;
  }
}

/// Groups in a row of `bytes` bytes of scales, seen from the band.
std::size_t groups_in(std::span<const std::byte> scales, DType dtype, std::int64_t scale_rows) {
  const std::size_t element = static_cast<std::size_t>(bits(dtype)) / 8;
  return scale_rows == 0 ? 0 : scales.size() / element / static_cast<std::size_t>(scale_rows);
}

void require(bool together) {
  if (!together) throw Error(ErrorCode::internal, "the parts of a grouped band do not belong together");
}

/// Columns of one group that lie together: as a rule whole groups.
struct GroupRun {
  std::size_t begin = 0;
  std::size_t size = 0;
  std::size_t group = 0;
};

/// Where the run that begins at `begin` ends.
std::size_t run_end(std::span<const std::int32_t> groups, std::size_t begin) {
  // Without a branch for every column: a row has thousands.
  constexpr std::size_t kStep = 16;
  std::size_t end = begin + 1;
  for (; end + kStep <= groups.size(); end += kStep) {
    std::int32_t differs = 0;
    for (std::size_t i = 0; i < kStep; ++i) differs |= groups[end + i] ^ groups[begin];
    if (differs != 0) break;
  }
  while (end < groups.size() && groups[end] == groups[begin]) ++end;
  return end;
}

/// The groups of a row's columns, by column and, unless runs are as short as act-order makes them, by run.
struct RowGroups {
  explicit RowGroups(std::span<const std::int32_t> groups) : of_column(groups) {
    constexpr std::size_t kShortRun = 8;
    runs.reserve(groups.size() / kShortRun);
    for (std::size_t k = 0; k < groups.size();) {
      if (runs.size() == groups.size() / kShortRun) {
        runs.clear();
        return;
      }
      const std::size_t end = run_end(groups, k);
      runs.push_back({k, end - k, static_cast<std::size_t>(groups[k])});
      k = end;
    }
  }

  bool within(std::size_t count) const {
    if (!runs.empty()) return std::ranges::all_of(runs, [&](const GroupRun& run) { return run.group < count; });
    return std::ranges::all_of(of_column,
                               [&](std::int32_t g) { return g >= 0 && static_cast<std::size_t>(g) < count; });
  }

  std::span<const std::int32_t> of_column;
  std::vector<GroupRun> runs;
};

/// value(group) gives what makes a value of a code of that group. The loop over the codes of a run has nothing else in it,
/// so that compilers make vectors of it.
template <typename Value>
REGAUGE_INLINE void decode_codes(const std::uint8_t* codes, const RowGroups& groups, std::span<float> out,
                                 const Value& value) {
  if (groups.runs.empty()) {
    for (std::size_t k = 0; k < out.size(); ++k) {
      out[k] = value(static_cast<std::size_t>(groups.of_column[k]))(codes[k]);
    }
    return;
  }
  for (const GroupRun& run : groups.runs) {
    const auto of_code = value(run.group);
    const std::uint8_t* from = codes + run.begin;
    float* to = out.data() + run.begin;
    for (std::size_t i = 0; i < run.size; ++i) to[i] = of_code(from[i]);
  }
}

#if defined(__x86_64__)
template <typename Value>
__attribute__((target("avx2"))) void decode_codes_avx2(const std::uint8_t* codes, const RowGroups& groups,
                                                       std::span<float> out, const Value& value) {
  decode_codes(codes, groups, out, value);
}
#endif

/// For this CPU. All give the same bits: there is no sum whose order could change, and nothing is contracted.
template <typename Value>
void decode_row(std::span<const std::uint8_t> codes, const RowGroups& groups, std::span<float> out, Value value) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  if (has_avx2) return decode_codes_avx2(codes.data(), groups, out, value);
#endif
  decode_codes(codes.data(), groups, out, value);
}

/// scale * (code - zero), the difference in integers.
auto differences(float scale, int zero) {
  return [scale, zero](std::uint8_t code) { return scale * static_cast<float>(static_cast<int>(code) - zero); };
}

/// One row, its scales and biases decoded; `zeros` are the group's zero points where the encoding has them.
void decode_row(const Grouped& encoding, std::span<const std::uint8_t> codes, const RowGroups& groups,
                std::span<const float> scales, std::span<const float> biases, std::span<const std::byte> zeros,
                std::span<float> out) {
  if (encoding.code == CodeKind::e2m1) {
    return decode_row(codes, groups, out, [&](std::size_t g) {
      return [scale = scales[g]](std::uint8_t code) { return f4_e2m1_to_f32(code) * scale; };
    });
  }
  if (encoding.code == CodeKind::e4m3) {
    const F8Flavour flavour = f8_flavour(encoding.flavour);
    return decode_row(codes, groups, out, [&](std::size_t g) {
      return [scale = scales[g], flavour](std::uint8_t code) { return f8_e4m3_to_f32(code, flavour) * scale; };
    });
  }
  switch (encoding.offset) {
    case Offset::none: return decode_row(codes, groups, out, [&](std::size_t g) { return differences(scales[g], 0); });
    case Offset::midpoint: {
      const int middle = 1 << (encoding.bits - 1);
      return decode_row(codes, groups, out, [&](std::size_t g) { return differences(scales[g], middle); });
    }
    case Offset::zero_point:
      return decode_row(codes, groups, out,
                        [&](std::size_t g) { return differences(scales[g], std::to_integer<int>(zeros[g])); });
    case Offset::bias:
      return decode_row(codes, groups, out, [&](std::size_t g) {
        return [scale = scales[g], bias = biases[g]](std::uint8_t code) {
          const float product = scale * static_cast<float>(static_cast<int>(code));
          return product + bias;
        };
      });
  }
}

}  // namespace

std::optional<std::string_view> why_not_decodable(const Grouped& encoding) {
  if (encoding.bits < 1 || encoding.bits > 8) return "codes have 1 to 8 bits";
  if (encoding.group.rows < 1 || encoding.group.cols < 0) return "a group has at least one element";
  const bool bytes = encoding.scale == DType::u8;
  if (encoding.code == CodeKind::unsigned_int) {
    if (!is_float(encoding.scale) || bits(encoding.scale) < 8) return "integer codes have float scales";
    if (encoding.global_scale) return "integer codes have no global scale";
    if (encoding.offset == Offset::zero_point && encoding.offset_dtype != DType::u8) return "zero points are bytes";
    const bool biased = encoding.offset == Offset::bias;
    if (biased && (!is_float(encoding.offset_dtype) || bits(encoding.offset_dtype) < 8)) return "biases are floats";
    return std::nullopt;
  }
  if (encoding.offset != Offset::none) return "float codes have no offset";
  if (encoding.bits != (encoding.code == CodeKind::e2m1 ? 4 : 8)) return "e2m1 codes have 4 bits and e4m3 codes 8";
  if (bytes ? !scale_is_e8m0(encoding) && !scale_is_e4m3(encoding)
            : !is_float(encoding.scale) || bits(encoding.scale) < 8) {
    return "float codes have float scales, or bytes over groups of 16 or 32";
  }
  // Only MLX defines one; ModelOpt and compressed-tensors multiply or divide by theirs, without the unit.
  if (encoding.global_scale && encoding.flavour != Flavour::mlx) return "a global scale has no meaning outside of MLX";
  // ggml halves its scales and doubles its codes, which is another product at the corners: blocks decode in ir/decode/blocks.h.
  if (encoding.flavour == Flavour::ggml) return "ggml's float codes are decoded from their blocks";
  return std::nullopt;
}

void decode_grouped(const Grouped& encoding, std::int64_t rows, std::int64_t columns, const GroupedBand& band,
                    std::span<float> out) {
  if (const auto reason = why_not_decodable(encoding)) throw Error(ErrorCode::unsupported, "{}", *reason);
  require(rows >= 0 && columns >= 0);
  const auto n = static_cast<std::size_t>(rows);
  const auto k = static_cast<std::size_t>(columns);
  require(out.size() == n * k && band.codes.size() == n * k && band.group_of_column.size() == k);
  require(band.global_scale.has_value() == encoding.global_scale);

  const std::int64_t scale_rows = (rows + encoding.group.rows - 1) / encoding.group.rows;
  const std::size_t groups = groups_in(band.scales, encoding.scale, scale_rows);
  const std::size_t scale_bytes = groups * static_cast<std::size_t>(bits(encoding.scale)) / 8;
  const bool has_offsets = encoding.offset == Offset::zero_point || encoding.offset == Offset::bias;
  const std::size_t offset_bytes = has_offsets ? groups * static_cast<std::size_t>(bits(encoding.offset_dtype)) / 8 : 0;
  require(band.scales.size() == static_cast<std::size_t>(scale_rows) * scale_bytes);
  require(band.offsets.size() == static_cast<std::size_t>(scale_rows) * offset_bytes);
  if (n == 0) return;
  const RowGroups row_groups(band.group_of_column);
  require(row_groups.within(groups));
  std::vector<float> scales(groups);
  std::vector<float> biases(encoding.offset == Offset::bias ? groups : 0);
  for (std::size_t row = 0; row < n; ++row) {
    const std::size_t scale_row = row / static_cast<std::size_t>(encoding.group.rows);
    const auto offsets = band.offsets.subspan(scale_row * offset_bytes, offset_bytes);
    if (row % static_cast<std::size_t>(encoding.group.rows) == 0) {
      decode_scales(encoding, band.global_scale, band.scales.subspan(scale_row * scale_bytes, scale_bytes), scales);
      if (!biases.empty()) decode_dense(encoding.offset_dtype, offsets, biases);
    }
    decode_row(encoding, band.codes.subspan(row * k, k), row_groups, scales, biases, offsets, out.subspan(row * k, k));
  }
}

}  // namespace regauge
