#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "convert/adapt.h"
#include "convert/route/affine.h"
#include "ir/decode/tensor.h"

namespace regauge {

/// What making some rows cost, measured against the source's values in the target's convention. Counts and maxima do not
/// depend on the order in which bands arrive; the two sums of f64 do in their last digits, so reports round them.
struct Loss {
  std::uint64_t changed = 0;       ///< elements whose value is not the source's
  double worst = 0.0;              ///< largest absolute difference; infinity when a finite value became infinite
  double worst_steps = 0.0;        ///< the same in units of the source's quantization step, where there is one
  std::uint64_t irreversible = 0;  ///< elements from which the source's own bits cannot be had back
  std::uint64_t measured = 0;      ///< elements that the sums run over; none where a route rounds without measuring
  double sum_error = 0.0;          ///< of squared differences
  double sum_source = 0.0;         ///< of the source's squares

  /// Root of the mean squared difference; 0 when nothing was measured.
  double rmse() const;
  /// Frobenius norm of the difference over the source's; infinite when the source is all zeros and the result is not.
  double relative_error() const;
  /// The source over the difference in dB; infinite when there is no difference.
  double signal_to_noise() const;

  void merge(const Loss& other);
};

/// Buffers that one thread uses again from band to band and tensor to tensor: fresh memory is the dearest thing here.
struct Scratch {
  std::vector<std::byte> raw;
  Buffer<float> values;
  Buffer<float> row;
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> row_codes;
  std::vector<std::byte> scales;
  std::vector<std::uint8_t> zeros;
  std::vector<std::uint8_t> block_codes;
  std::vector<std::byte> stream;
  std::vector<std::byte> unordered;
  std::vector<std::uint16_t> d_bits;
  std::vector<std::uint16_t> m_bits;
  AffineBand affine;
  Buffer<float> wanted;
  Buffer<float> measured;
  std::vector<float> steps;
  std::vector<float> parameters;

  /// A decoder for `tensor`, with or without its low-rank factors, kept from the last call when that was for the same.
  TensorDecoder& decoder(const Tensor& tensor, bool with_low_rank = false);

 private:
  const Tensor* decoded_ = nullptr;
  bool decoded_low_rank_ = false;
  std::optional<TensorDecoder> decoder_;
};

/// One buffer for each array of a step.
using BandBuffers = std::span<const std::span<std::byte>>;

using StoredBuffers = std::span<const std::span<const std::byte>>;

/// Makes rows of one target tensor. Immutable: any number of threads may call make(), each with its own Scratch.
class RowMaker {
 public:
  virtual ~RowMaker() = default;
  /// Rows to make at once so that all buffers of a band stay at a few MiB.
  virtual std::int64_t band_rows() const = 0;
  /// Working memory in bytes that a row of a band costs make(), where that is more than convert/memory.h assumes of every
  /// route; 0: it is not.
  virtual std::int64_t bytes_per_row() const { return 0; }
  /// Rows that make() works on at once and holds all this for, where that is fewer than the band's; 0: all of them.
  virtual std::int64_t tile_rows() const { return 0; }
  /// Whether make() takes codes as RowSource::packed() has them, and never holds one a byte.
  virtual bool is_packed() const { return false; }
  /// Writes what rows [rows.begin, rows.end) of the target make of each array of the step, packed, into the buffer of the
  /// same number, which is exactly as large. Adds to `loss`.
  virtual void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const = 0;
  /// The values that stored bytes stand for, by the dequant reference and in the target's convention: `stored` is what
  /// make() gave for these rows, or what was read back of it; `out` holds rows.size() * columns values.
  virtual void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const = 0;
  /// The source's quantization step at every value of these rows; zero where there is none.
  virtual void steps(RowRange rows, Scratch& scratch, std::span<float> out) const;
};

using RowMakerPtr = std::unique_ptr<const RowMaker>;

/// A stretch of rows that lie together in the source and in the target.
struct RowRun {
  const TargetPiece* piece = nullptr;
  RowRange source;  ///< in the piece's source matrix
  std::int64_t target_row = 0;
};

/// The runs that make up target rows [rows), in target order; with pieces side by side, one run for each.
std::vector<RowRun> row_runs(const Target& target, RowRange rows);

/// The source columns that a piece takes, in target order: its own selection, then its view's. Nothing: all, in order.
std::optional<AxisMap> source_columns(const TargetPiece& piece);

/// Rows of the source matrix of `piece`, read from a part that holds the same elements in rows of another length.
void read_part_rows(const TargetPiece& piece, PartId id, RowRange source, std::vector<std::byte>& scratch,
                    std::span<std::byte> out);

/// Rows of one part, of which the range need not be aligned to the part's quantum; `scratch` holds the rest of the words.
void read_aligned(const RowSource& part, RowRange rows, std::vector<std::byte>& scratch, std::span<std::byte> out);

/// Rows that fit `budget_bytes` at `bytes_per_row`, at least one, a multiple of 64 when that many fit.
std::int64_t rows_within(std::int64_t budget_bytes, std::int64_t bytes_per_row, std::int64_t rows);

}  // namespace regauge
