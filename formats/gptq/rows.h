#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/file.h"
#include "formats/layouts/gptq_words.h"
#include "formats/layouts/marlin.h"
#include "ir/rows.h"

namespace regauge::gptq {

// GPTQ and Marlin store the transposed matrix: K runs down, N across. Output rows are therefore columns of every stored
// array, and a band of them is a short run out of each stored row. Each source reads just those runs.

/// An array of a file as these sources need it: where it begins; its shape the reader has checked.
struct ArrayAt {
  std::shared_ptr<const File> file;
  std::uint64_t offset = 0;
};

/// codes [N, K] from qweight, I32 [K*b/32, N].
class QweightRows final : public RowSource {
 public:
  QweightRows(ArrayAt array, layouts::GptqLayout layout, std::int64_t n, std::int64_t k);
  std::int64_t preferred_rows() const noexcept override;
  RowSourcePtr packed() const override;

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  ArrayAt array_;
  layouts::GptqLayout layout_;
};

/// zeros [N, G] from qzeros, I32 [G, N*b/32]: true zero points whatever the file's convention.
class QzerosRows final : public RowSource {
 public:
  QzerosRows(ArrayAt array, layouts::GptqLayout layout, layouts::ZeroConvention convention, std::int64_t n,
             std::int64_t groups);
  std::int64_t row_quantum() const noexcept override { return quantum_; }
  std::int64_t preferred_rows() const noexcept override;

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  ArrayAt array_;
  layouts::GptqLayout layout_;
  layouts::ZeroConvention convention_;
  std::int64_t quantum_;
};

/// group_index [1, K] from g_idx, I32 [K]. Every entry that comes out is a group in [0, G): one counted from the end, as
/// ModelCloud/GPTQModel's pack_block takes it, is turned round, any other is Error{malformed} naming `array`, file and offset.
class GroupIndexRows final : public RowSource {
 public:
  GroupIndexRows(ArrayAt at, std::string array, std::int64_t k, std::int64_t groups)
      : RowSource(1, static_cast<std::size_t>(k) * sizeof(std::int32_t)),
        at_(std::move(at)),
        array_(std::move(array)),
        groups_(groups) {}

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  ArrayAt at_;
  std::string array_;
  std::int64_t groups_;
};

/// codes [N, K] from a serialised Marlin weight `B`, I32 [K/16, 2N], 4 bits.
class MarlinWeightRows final : public RowSource {
 public:
  MarlinWeightRows(ArrayAt array, std::int64_t n, std::int64_t k);
  std::int64_t row_quantum() const noexcept override { return layouts::kMarlinTileColumns; }
  std::int64_t preferred_rows() const noexcept override;

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  ArrayAt array_;
};

/// scales [N, G] from Marlin's `s`, 16-bit [G, N], permuted within each run of 64 or 32 columns.
class MarlinScaleRows final : public RowSource {
 public:
  MarlinScaleRows(ArrayAt array, layouts::MarlinScaleOrder order, std::int64_t n, std::int64_t groups);
  std::int64_t row_quantum() const noexcept override { return layouts::kMarlinTileColumns; }
  std::int64_t preferred_rows() const noexcept override;

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  ArrayAt array_;
  layouts::MarlinScaleOrder order_;
};

}  // namespace regauge::gptq
