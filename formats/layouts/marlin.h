#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace regauge::layouts {

// The Marlin layout of 4 and 8 bit weights: tiles of 16 k by 64 n, whose codes lie in the order in which the lanes of a
// GPU warp want them. The serialised checkpoint form (`B` and `s`: 4 bits) and the run-time form (qweight, scales, bias,
// zero points: 4 and 8 bits) use the same maps. All of them are bijections. Sources: IST-DASLab/marlin
// marlin/__init__.py; vllm-project/vllm vllm/model_executor/layers/quantization/utils/marlin_utils_test.py;
// ModelCloud/GPTQModel gptqmodel_ext/marlin/gptq_marlin_repack.cu and gptqmodel/utils/marlin.py.

inline constexpr std::int64_t kMarlinTileRows = 16;     ///< k
inline constexpr std::int64_t kMarlinTileColumns = 64;  ///< n

/// Reads `words` [k / 16, n * bits / 2], a band of n columns of a Marlin weight (of the tensor's [K/16, N*bits/2]), into
/// `codes` [n, k], one byte each. Codes keep the GPTQ bias (value = code - 2^(bits-1)); rows stay in the stored, for
/// act-order sorted, order. Throws Error{invalid} unless bits is 4 or 8, n % 64 == 0 and k % 16 == 0, Error{internal}
/// when a span has another size.
void unpack_marlin_columns(int bits, std::int64_t n, std::int64_t k, std::span<const std::byte> words,
                           std::span<std::uint8_t> codes);

/// The inverse. Also throws Error{invalid} when a code does not fit its width.
void pack_marlin_columns(int bits, std::int64_t n, std::int64_t k, std::span<const std::uint8_t> codes,
                         std::span<std::byte> words);

/// How a row of N scales is permuted. Bias always is as `single`; zero points start as `grouped`.
enum class MarlinScaleOrder : std::uint8_t {
  grouped,  ///< several groups: in every run of 64, the transpose of 8 by 8
  single,   ///< one group for all of K: in every run of 32, pairs dealt out to the four quads
};

/// The order that Marlin uses for a group size (-1: all of K) and K; a group as large as K counts as single.
MarlinScaleOrder marlin_scale_order(std::int64_t group_size, std::int64_t k);

/// Puts 16-bit scales, rows of the [G, N] tensor or any run of them that starts at a multiple of 64 (grouped) or 32
/// (single) columns, into Marlin order. Throws Error{invalid} for a length that is no multiple of that,
/// Error{internal} for spans of different length. `from` and `to` must not overlap.
void permute_marlin_scales(MarlinScaleOrder order, std::span<const std::uint16_t> from, std::span<std::uint16_t> to);

/// The inverse of permute_marlin_scales.
void restore_marlin_scales(MarlinScaleOrder order, std::span<const std::uint16_t> from, std::span<std::uint16_t> to);

/// Reads `words`, rows of the [G, N * bits / 32] run-time zero points or runs of whole 64 columns of one, into true zero
/// points, one byte each. Throws Error{invalid} unless bits is 4 or 8 and zeros.size() % 64 == 0, Error{internal} when
/// the spans do not belong together.
void unpack_marlin_zeros(int bits, std::span<const std::byte> words, std::span<std::uint8_t> zeros);

/// The inverse. Also throws Error{invalid} when a zero point does not fit its width.
void pack_marlin_zeros(int bits, std::span<const std::uint8_t> zeros, std::span<std::byte> words);

/// The order in which act-order weights are stored: position k' holds source column sort[k']. A stable sort by group, so
/// columns of one group keep their order; other writers leave that order undefined.
/// Throws Error{invalid} when there are more columns than int32 counts.
std::vector<std::int32_t> act_order_sort(std::span<const std::int32_t> group_index);

/// Throws Error{malformed} unless `sort` names each of 0 .. sort.size() - 1 once: what to do with sort indices from a file
/// before any function below sees them.
void require_permutation(std::span<const std::int32_t> sort);

/// sorted[i] = natural[sort[i]]: group indices or the codes of one row into the stored order. All spans have one length
/// (else Error{internal}) and `sort` is a permutation.
void sort_columns(std::span<const std::int32_t> sort, std::span<const std::int32_t> natural,
                  std::span<std::int32_t> sorted);
void sort_columns(std::span<const std::int32_t> sort, std::span<const std::uint8_t> natural,
                  std::span<std::uint8_t> sorted);

/// natural[sort[i]] = sorted[i]: the inverse of sort_columns, under the same rules.
void unsort_columns(std::span<const std::int32_t> sort, std::span<const std::int32_t> sorted,
                    std::span<std::int32_t> natural);
void unsort_columns(std::span<const std::int32_t> sort, std::span<const std::uint8_t> sorted,
                    std::span<std::uint8_t> natural);

}  // namespace regauge::layouts
