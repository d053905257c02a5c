#include "formats/gptq/rows.h"

#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "ir/transposed_rows.h"

namespace regauge::gptq {
namespace {

// A run of this many bytes out of a stored row: a page, so that little is fetched for nothing.
constexpr std::int64_t kPreferredRun = 4096;
constexpr std::int64_t kWordBytes = 4;
constexpr std::int64_t kMarlinWordsPerColumn = 2;  // of one tile row of 16 k at 4 bits
constexpr std::size_t kScaleBytes = 2;

std::uint8_t* as_u8(std::span<std::byte> bytes) { return reinterpret_cast<std::uint8_t*>(bytes.data()); }

std::span<std::uint8_t> codes_in(std::span<std::byte> bytes) { return {as_u8(bytes), bytes.size()}; }

}  // namespace

QweightRows::QweightRows(ArrayAt array, layouts::GptqLayout layout, std::int64_t n, std::int64_t k)
    : RowSource(n, static_cast<std::size_t>(k)), array_(std::move(array)), layout_(layout) {}

std::int64_t QweightRows::preferred_rows() const noexcept { return kPreferredRun / kWordBytes; }

RowSourcePtr QweightRows::packed() const {
  if (layout_.packing != layouts::GptqPacking::continuous) return nullptr;
  const std::int64_t word_rows = static_cast<std::int64_t>(row_bytes()) / 32 * layout_.bits;
  return std::make_shared<TransposedRows>(array_.file, array_.offset, word_rows, rows(), kWordBytes);
}

void QweightRows::read_rows(RowRange range, std::span<std::byte> out) const {
  const auto k = static_cast<std::int64_t>(row_bytes());
  const std::int64_t word_rows = k / 32 * layout_.bits;
  const auto run = static_cast<std::size_t>(range.size() * kWordBytes);
  const auto words = thread_scratch(static_cast<std::size_t>(word_rows) * run);
  read_strided(*array_.file, array_.offset + static_cast<std::uint64_t>(range.begin * kWordBytes), word_rows,
               static_cast<std::uint64_t>(rows() * kWordBytes), run, words);
  layouts::unpack_gptq_columns(layout_, range.size(), k, words, codes_in(out));
}

QzerosRows::QzerosRows(ArrayAt array, layouts::GptqLayout layout, layouts::ZeroConvention convention, std::int64_t n,
                       std::int64_t groups)
    : RowSource(n, static_cast<std::size_t>(groups)),
      array_(std::move(array)),
      layout_(layout),
      convention_(convention),
      quantum_(layouts::gptq_zeros_quantum(layout)) {}

std::int64_t QzerosRows::preferred_rows() const noexcept { return kPreferredRun * 8 / layout_.bits; }

void QzerosRows::read_rows(RowRange range, std::span<std::byte> out) const {
  // Whole words: the quantum sees to the begin, N % 32 == 0 to the end.
  const auto bytes_of = [&](std::int64_t zeros) { return zeros * layout_.bits / 8; };
  const auto groups = static_cast<std::int64_t>(row_bytes());
  const auto run = static_cast<std::size_t>(bytes_of(range.size()));
  const auto words_size = static_cast<std::size_t>(groups) * run;
  const auto scratch = thread_scratch(words_size + out.size());
  const auto words = scratch.first(words_size);
  const auto zeros = scratch.subspan(words_size);
  read_strided(*array_.file, array_.offset + static_cast<std::uint64_t>(bytes_of(range.begin)), groups,
               static_cast<std::uint64_t>(bytes_of(rows())), run, words);
  const auto n = static_cast<std::size_t>(range.size());
  for (std::size_t g = 0; g < row_bytes(); ++g) {
    layouts::unpack_gptq_zeros(layout_, convention_, words.subspan(g * run, run), codes_in(zeros.subspan(g * n, n)));
  }
  transpose(groups, range.size(), 1, zeros, out);
}

void GroupIndexRows::read_rows(RowRange /*range: the only row*/, std::span<std::byte> out) const {
  at_.file->read_at(at_.offset, out);
  for (std::size_t at = 0; at < out.size(); at += sizeof(std::int32_t)) {
    const auto stored = load_le<std::int32_t>(out.data() + at);
    const std::int64_t group = stored < 0 ? stored + groups_ : stored;
    if (group < 0 || group >= groups_) {
      throw Error(ErrorCode::malformed, "column {} names group {}, but there are {}", at / sizeof(std::int32_t), stored,
                  groups_)
          .tensor(excerpt(array_))
          .at(at_.file->path())
          .offset(at_.offset + at);
    }
    store_le(out.data() + at, static_cast<std::int32_t>(group));
  }
}

MarlinWeightRows::MarlinWeightRows(ArrayAt array, std::int64_t n, std::int64_t k)
    : RowSource(n, static_cast<std::size_t>(k)), array_(std::move(array)) {}

std::int64_t MarlinWeightRows::preferred_rows() const noexcept {
  return kPreferredRun / (kMarlinWordsPerColumn * kWordBytes);
}

void MarlinWeightRows::read_rows(RowRange range, std::span<std::byte> out) const {
  constexpr std::int64_t kColumnBytes = kMarlinWordsPerColumn * kWordBytes;
  const auto k = static_cast<std::int64_t>(row_bytes());
  const auto run = static_cast<std::size_t>(range.size() * kColumnBytes);
  const auto words = thread_scratch(static_cast<std::size_t>(k / layouts::kMarlinTileRows) * run);
  read_strided(*array_.file, array_.offset + static_cast<std::uint64_t>(range.begin * kColumnBytes),
               k / layouts::kMarlinTileRows, static_cast<std::uint64_t>(rows() * kColumnBytes), run, words);
  layouts::unpack_marlin_columns(4, range.size(), k, words, codes_in(out));
}

MarlinScaleRows::MarlinScaleRows(ArrayAt array, layouts::MarlinScaleOrder order, std::int64_t n, std::int64_t groups)
    : RowSource(n, static_cast<std::size_t>(groups) * kScaleBytes), array_(std::move(array)), order_(order) {}

std::int64_t MarlinScaleRows::preferred_rows() const noexcept {
  return kPreferredRun / static_cast<std::int64_t>(kScaleBytes);
}

void MarlinScaleRows::read_rows(RowRange range, std::span<std::byte> out) const {
  const auto groups = static_cast<std::int64_t>(row_bytes() / kScaleBytes);
  const auto run = static_cast<std::size_t>(range.size()) * kScaleBytes;
  const auto stored = thread_scratch(out.size());
  read_strided(*array_.file, array_.offset + static_cast<std::uint64_t>(range.begin) * kScaleBytes, groups,
               static_cast<std::uint64_t>(rows()) * kScaleBytes, run, stored);
  // The runs are u16 for the permutation; a row of the band at a time keeps the copies small.
  std::vector<std::uint16_t> permuted(static_cast<std::size_t>(range.size()));
  std::vector<std::uint16_t> natural(permuted.size());
  for (std::int64_t g = 0; g < groups; ++g) {
    const auto row = stored.subspan(static_cast<std::size_t>(g) * run, run);
    std::memcpy(permuted.data(), row.data(), run);
    layouts::restore_marlin_scales(order_, permuted, natural);
    std::memcpy(row.data(), natural.data(), run);
  }
  transpose(groups, range.size(), kScaleBytes, stored, out);
}

}  // namespace regauge::gptq
