#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace regauge::layouts {

// How GPTQ packs codes into little-endian 32-bit words: along K for qweight [K*b/32, N], along N for qzeros [G, N*b/32].
// 32 codes take b words either way. Source: ModelCloud/GPTQModel gptqmodel/nn_modules/qlinear/__init__.py (pack_block,
// pack_original) and gptqmodel/utils/planar_packing.py.

/// How the 32 codes of a block share its b words. Nothing but the checkpoint's config says which it is.
enum class GptqPacking : std::uint8_t {
  continuous,  ///< one LSB-first bit stream; the formats `gptq` and `gptq_v2`, 2, 3, 4 and 8 bits
  planar,      ///< bit planes of 4, 2 and 1 bits, the low one first; the format `gptq_p`, 2 to 8 bits
};

/// What a stored zero point means.
enum class ZeroConvention : std::uint8_t {
  v2,          ///< the zero point itself (`gptq_v2`, `gptq_p`)
  v1,          ///< minus one (`gptq`): off the 32-bit word at 2, 4 and 8 bits, off each field at other widths
  v1_legacy3,  ///< 3 bits as GPTQModel 6.0.3 and older wrote them: three word constants of which two are swapped
};

struct GptqLayout {
  int bits = 4;  ///< 1 to 8, though files hold only those named at GptqPacking
  GptqPacking packing = GptqPacking::continuous;

  bool operator==(const GptqLayout&) const = default;
};

/// Columns of qzeros that can be read on their own: a band of output rows must start at a multiple of this. It is
/// 32 / bits where no code crosses a word, else 32.
std::int64_t gptq_zeros_quantum(GptqLayout layout);

/// Reads `words` [k * bits / 32, n], a band of n columns of qweight, into `codes` [n, k]: transposed, one byte per code.
/// Throws Error{invalid} for a width outside 1 to 8 or k % 32 != 0, Error{internal} when a span has another size.
void unpack_gptq_columns(GptqLayout layout, std::int64_t n, std::int64_t k, std::span<const std::byte> words,
                         std::span<std::uint8_t> codes);

/// The inverse. Also throws Error{invalid} when a code does not fit its width; `words` then holds nothing of use.
void pack_gptq_columns(GptqLayout layout, std::int64_t n, std::int64_t k, std::span<const std::uint8_t> codes,
                       std::span<std::byte> words);

/// Reads `words`, a run of one row of qzeros that starts at a column that gptq_zeros_quantum() divides, into true zero
/// points, one byte each. zeros.size() must be a multiple of that quantum too. Whole rows may follow one another where
/// N % 32 == 0. Throws as unpack_gptq_columns, and Error{invalid} for a convention that the layout cannot have.
void unpack_gptq_zeros(GptqLayout layout, ZeroConvention convention, std::span<const std::byte> words,
                       std::span<std::uint8_t> zeros);

/// The inverse. Also throws Error{invalid} when a zero point does not fit its width.
void pack_gptq_zeros(GptqLayout layout, ZeroConvention convention, std::span<const std::uint8_t> zeros,
                     std::span<std::byte> words);

/// Turns stored zero points from one convention into another, in place and without loss. `words` as in
/// unpack_gptq_zeros. Throws Error{invalid} for a convention that the layout cannot have.
void convert_gptq_zeros(GptqLayout layout, ZeroConvention from, ZeroConvention to, std::span<std::byte> words);

}  // namespace regauge::layouts
