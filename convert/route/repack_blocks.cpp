#include "convert/route/repack_blocks.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "base/half.h"
#include "convert/route/affine_rows.h"
#include "formats/layouts/ggml_blocks.h"
#include "ir/decode/blocks.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 8 << 20;

/// What a block type can say.
struct Candidate {
  BlockType type;
  bool has_bias;  // d * code + m; else d * (code - zero)
  int low;        // smallest and largest code - zero, or code
  int high;
  int stored_offset;  // added to code - zero
};

// Smallest first; of equal size, none. Q8_0 stores the difference as a signed byte. Q2_0 is a case of its own: d may be
// negated, so that zero points 1 and 2 are both within reach.
// Sources: ggml-org/ggml src/ggml-quants.c, the dequantize_row_ functions.
constexpr std::array<Candidate, 6> kCandidates{{
    {BlockType::q2_0, false, -1, 2, 1},
    {BlockType::q4_0, false, -8, 7, 8},
    {BlockType::q4_1, true, 0, 15, 0},
    {BlockType::q5_0, false, -16, 15, 16},
    {BlockType::q5_1, true, 0, 31, 0},
    {BlockType::q8_0, false, -128, 127, 0},
}};

const Candidate& candidate(BlockType type) { return *std::ranges::find(kCandidates, type, &Candidate::type); }

class Planner {
 public:
  Planner(const AffineSource& source, const AffineFacts& facts) : source_(source), facts_(facts) {}

  std::variant<BlockRepack, std::string> plan(bool allow_rounded) {
    for (const bool rounded : {false, true}) {
      if (rounded && !allow_rounded) break;
      for (const Candidate& type : kCandidates) {
        if (!says_values(type, rounded)) continue;
        if (auto groups = groups_of(block_elements(type.type))) {
          return BlockRepack{type.type, rounded, codes_stay(type), *groups};
        }
      }
    }
    return reason(allow_rounded);
  }

 private:
  bool says_values(const Candidate& type, bool rounded) {
    if (!rounded && !facts_.scales_fit_f16) return false;
    if (rounded && !facts_.rounded_biases_fit_f16) return false;
    if (type.has_bias)
      return (1 << facts_.bits) - 1 <= type.high && (rounded || (facts_.finite && facts_.biases_fit_f16));
    if (!facts_.zeros_exist && !(rounded && type.type == BlockType::q8_0)) return false;
    if (type.type == BlockType::q2_0) return facts_.bits <= 2 && facts_.zeros.within(1, 2);
    if (within_bounds(type)) return true;
    // Every difference lies within the type's reach although the extremes of codes and zero points would not.
    const std::int64_t reach = facts_.zeros.high - facts_.zeros.low + (1 << facts_.bits);
    if (reach > 4 * (std::int64_t{type.high} - type.low + 1)) return false;
    if (!differences_) differences_ = source_.differences();
    return differences_->within(type.low, type.high);
  }

  bool within_bounds(const Candidate& type) const {
    const std::int64_t top = (1 << facts_.bits) - 1;
    return facts_.zeros.empty() || (-facts_.zeros.high >= type.low && top - facts_.zeros.low <= type.high);
  }

  bool codes_stay(const Candidate& type) const {
    return type.has_bias ||
           (facts_.zeros_exist && !facts_.zeros.empty() && facts_.zeros.within(type.stored_offset, type.stored_offset));
  }

  const std::optional<GroupMap>& groups_of(std::int64_t width) {
    auto& known = width == 64 ? groups_64_ : groups_32_;
    if (!known) known = source_.groups_of(width);
    return *known;
  }

  std::string reason(bool allow_rounded) {
    const std::int64_t columns = source_.target().columns;
    if (columns % 32 != 0) return fmt::format("rows of {} are no multiple of 32", columns);
    if (!groups_of(32)) {
      return facts_.contiguous ? fmt::format("groups of {} cut blocks of 32", facts_.own_width)
                               : std::string("act-order: columns of a group do not lie together");
    }
    if (!facts_.finite) return "scales or offsets are not finite";
    if (!facts_.scales_fit_f16) return fmt::format("its {} scales do not all fit F16", name(facts_.widest));
    if (facts_.zeros_exist || (allow_rounded && facts_.bits > 5)) {
      if (!differences_) differences_ = source_.differences();
      return fmt::format("code - zero reaches from {} to {}, beyond a signed byte", differences_->low,
                         differences_->high);
    }
    return facts_.bits <= 5 ? std::string("its biases do not all fit F16")
                            : fmt::format(
                                  "biases are no whole multiples of scales, and no block type holds {} bits "
                                  "with a bias",
                                  facts_.bits);
  }

  const AffineSource& source_;
  const AffineFacts& facts_;
  std::optional<IntRange> differences_;
  std::optional<std::optional<GroupMap>> groups_32_;
  std::optional<std::optional<GroupMap>> groups_64_;
};

class BlockRepackRows final : public RowMaker {
 public:
  BlockRepackRows(AffineSource source, BlockRepack repack)
      : source_(std::move(source)), repack_(std::move(repack)), type_(candidate(repack_.type)) {
    row_bytes_ =
        static_cast<std::size_t>(source_.target().columns / block_elements(type_.type) * block_bytes(type_.type));
    streamed_ = layouts::block_takes_stream(type_.type) && repack_.codes_stay &&
                has_streams(source_, layouts::block_code_bits(type_.type));
  }

  std::int64_t band_rows() const override {
    return rows_within(kBandBytes, source_.target().columns, source_.target().rows);
  }

  bool is_packed() const override { return streamed_; }

  void make(RowRange rows, BandBuffers buffers, Scratch& scratch, Loss&) const override {
    const std::span<std::byte> out = buffers.front();
    if (streamed_) return make_streamed(rows, out, scratch);
    for_each_affine_row(source_, repack_.groups, rows, scratch, [&](const AffineRow& row, std::size_t at) {
      pack_row(row, scratch, out.subspan(at * row_bytes_, row_bytes_));
    });
  }

  void decode(RowRange, StoredBuffers stored, Scratch&, std::span<float> out) const override {
    decode_blocks(type_.type, stored.front(), out);
  }

  void steps(RowRange rows, Scratch& scratch, std::span<float> out) const override {
    affine_steps(source_, rows, scratch, out);
  }

 private:
  void make_streamed(RowRange rows, std::span<std::byte> out, Scratch& scratch) const {
    const auto stream_bytes =
        static_cast<std::size_t>(layouts::block_code_bits(type_.type) * source_.target().columns) / 8;
    scratch.stream.resize(static_cast<std::size_t>(rows.size()) * stream_bytes);
    const auto stream = [&](std::size_t at, std::size_t count) {
      return std::span(scratch.stream).subspan(at * stream_bytes, count * stream_bytes);
    };
    for_each_streamed_row(source_, repack_.groups, rows, scratch, stream, [&](const AffineRow& row, std::size_t at) {
      round_parameters(row, scratch);
      layouts::pack_block_stream(type_.type, stream(at, 1), scratch.d_bits, scratch.m_bits,
                                 out.subspan(at * row_bytes_, row_bytes_));
    });
  }

  /// Scales, and minima where the type has them.
  void round_parameters(const AffineRow& row, Scratch& scratch) const {
    const std::size_t blocks = row.groups.size();
    scratch.d_bits.resize(blocks);
    scratch.m_bits.resize(type_.has_bias ? blocks : 0);
    for (std::size_t b = 0; b < blocks; ++b) scratch.d_bits[b] = f32_to_f16(row.scale(b));
    for (std::size_t b = 0; b < scratch.m_bits.size(); ++b) scratch.m_bits[b] = f32_to_f16(row.bias(b));
  }

  void pack_row(const AffineRow& row, Scratch& scratch, std::span<std::byte> out) const {
    const std::size_t blocks = row.groups.size();
    const auto width = static_cast<std::size_t>(block_elements(type_.type));
    round_parameters(row, scratch);
    if (repack_.codes_stay) return layouts::pack_blocks_row(type_.type, row.codes, scratch.d_bits, scratch.m_bits, out);
    scratch.block_codes.resize(row.codes.size());
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::int64_t zero = row.zero(b);
      const auto from = row.codes.subspan(b * width, width);
      std::uint8_t* to = scratch.block_codes.data() + b * width;
      if (type_.type == BlockType::q2_0 && zero == 2) {
        // s * (q - 2) is -s * ((3 - q) - 1).
        scratch.d_bits[b] = f32_to_f16(-row.scale(b));
        for (std::size_t i = 0; i < width; ++i) to[i] = static_cast<std::uint8_t>(3 - from[i]);
        continue;
      }
      const auto shift = static_cast<std::uint8_t>(type_.stored_offset - zero);
      // Bytes wrap, which is what Q8_0's signed codes want.
      for (std::size_t i = 0; i < width; ++i) to[i] = static_cast<std::uint8_t>(from[i] + shift);
    }
    layouts::pack_blocks_row(type_.type, scratch.block_codes, scratch.d_bits, {}, out);
  }

  AffineSource source_;
  BlockRepack repack_;
  const Candidate& type_;
  bool streamed_ = false;
  std::size_t row_bytes_ = 0;
};

}  // namespace

std::variant<BlockRepack, std::string> plan_block_repack(const AffineSource& source, const AffineFacts& facts,
                                                         bool allow_rounded) {
  return Planner(source, facts).plan(allow_rounded);
}

RowMakerPtr make_block_repack(AffineSource source, BlockRepack repack) {
  return std::make_unique<BlockRepackRows>(std::move(source), std::move(repack));
}

}  // namespace regauge
