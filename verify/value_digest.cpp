#include "verify/value_digest.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <deque>
#include <mutex>
#include <optional>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "convert/route/reencode_dense.h"
#include "convert/workers.h"
#include "ir/decode/tensor.h"

namespace regauge {
namespace {

/// Row digests of a leaf are held until all of its bands are in. Leaves with more rows than this (long and narrow ones) are
/// left to one worker, who needs to hold none.
constexpr std::int64_t kMostRowsHeld = std::int64_t{1} << 20;
constexpr std::size_t kReadBytes = std::size_t{4} << 20;

void add_number(Xxh3_128& digest, std::uint64_t number) { digest.update(bytes_of(number)); }

void add_text(Xxh3_128& digest, std::string_view text) {
  add_number(digest, text.size());
  digest.update(bytes_of(text));
}

void add_digest(Xxh3_128& digest, const Digest128& part) {
  add_number(digest, part.low);
  add_number(digest, part.high);
}

/// What comes before the row digests.
Xxh3_128 begin_leaf(const Target& target) {
  Xxh3_128 digest;
  add_text(digest, target.name);
  add_number(digest, target.shape.rank());
  for (const std::int64_t dim : target.shape.dims) add_number(digest, static_cast<std::uint64_t>(dim));
  return digest;
}

bool has_values(const Target& target) {
  return std::ranges::all_of(target.pieces,
                             [](const TargetPiece& piece) { return is_decodable(piece.tensor->encoding); });
}

/// Whether a row has a -0 or a NaN at all, which is rare. Several sums at a time: compilers make vectors of them, and
/// looking costs half of what rewriting every value would.
bool has_special(std::span<const float> row) noexcept {
  constexpr std::size_t kLanes = 8;
  const auto special = [](float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint32_t>(bits == 0x80000000U) |
           static_cast<std::uint32_t>((bits & 0x7FFFFFFFU) > 0x7F800000U);
  };
  std::array<std::uint32_t, kLanes> found{};
  std::size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) found[lane] |= special(row[i + lane]);
  }
  for (; i < row.size(); ++i) found[0] |= special(row[i]);
  return std::ranges::any_of(found, [](std::uint32_t one) { return one != 0; });
}

/// What one worker uses again from band to band.
struct Buffers {
  Scratch scratch;
  Buffer<float> values;
  std::vector<Wide> wide;
  std::vector<std::byte> raw;
};

void digest_rows(const Target& target, const RowMaker& maker, RowRange rows, Buffers& buffers,
                 std::span<Digest128> out) {
  const auto columns = static_cast<std::size_t>(target.columns);
  buffers.values.resize(static_cast<std::size_t>(rows.size()) * columns);
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(buffers.values));
  Loss ignored;
  maker.make(rows, std::span(&bytes, 1), buffers.scratch, ignored);
  for (std::size_t r = 0; r < out.size(); ++r)
    out[r] = digest_row(std::span(buffers.values).subspan(r * columns, columns));
}

void digest_wide_rows(const Target& target, const WideRows& source, RowRange rows, Buffers& buffers,
                      std::span<Digest128> out) {
  const auto columns = static_cast<std::size_t>(target.columns);
  buffers.wide.resize(static_cast<std::size_t>(rows.size()) * columns);
  source.read(rows, buffers.scratch, buffers.raw, buffers.wide);
  for (std::size_t r = 0; r < out.size(); ++r)
    out[r] = digest_wide_row(std::span(buffers.wide).subspan(r * columns, columns));
}

/// One leaf under way.
struct Work {
  const Target* target = nullptr;
  RowMakerPtr maker;             ///< null: no values can be made of it
  std::optional<WideRows> wide;  ///< of numbers that f32 does not hold
  std::int64_t height = 0;       ///< rows of a band
  bool split = false;            ///< its bands go to several workers
  std::vector<Digest128> rows;
  std::atomic<std::int64_t> rows_left = 0;

  std::uint64_t elements() const { return static_cast<std::uint64_t>(target->rows * target->columns); }
};

void digest_band(const Work& work, RowRange rows, Buffers& buffers, std::span<Digest128> out) {
  if (work.wide) {
    digest_wide_rows(*work.target, *work.wide, rows, buffers, out);
  } else {
    digest_rows(*work.target, *work.maker, rows, buffers, out);
  }
}

struct Job {
  std::size_t leaf = 0;
  RowRange rows;
};

class Digesting {
 public:
  Digesting(const EffectiveModel& model, std::span<const OpenedPath> paths, const DigestProgress& progress,
            const std::atomic<bool>* cancel)
      : model_(model), paths_(paths), progress_(progress), cancel_(cancel), digests_(model.leaves.size()) {
    for (const Leaf& leaf : model.leaves) begin(leaf.target);
  }

  std::vector<Digest128> run(int threads) {
    Workers workers(threads);
    std::vector<Buffers> buffers(static_cast<std::size_t>(workers.count()));
    workers.for_each(jobs_.size(),
                     [&](std::size_t job, std::size_t worker) { carry_out(jobs_[job], buffers[worker]); });
    return std::move(digests_);
  }

 private:
  void begin(const Target& target) {
    Work& work = work_.emplace_back();
    work.target = &target;
    total_ += work.elements();
    const std::size_t leaf = work_.size() - 1;
    if (!has_values(target) || work.elements() == 0) {
      jobs_.push_back({leaf, {0, target.rows}});
      return;
    }
    work.maker = make_dense(target, DType::f32);
    work.wide = WideRows::of(target);
    const std::int64_t quantum = target.pieces.front().tensor->row_quantum();
    work.height = (work.maker->band_rows() + quantum - 1) / quantum * quantum;
    work.split = target.rows > work.height && target.rows <= kMostRowsHeld;
    if (!work.split) {
      jobs_.push_back({leaf, {0, target.rows}});
      return;
    }
    work.rows_left = target.rows;
    for (std::int64_t row = 0; row < target.rows; row += work.height)
      jobs_.push_back({leaf, {row, std::min(target.rows, row + work.height)}});
  }

  void carry_out(const Job& job, Buffers& buffers) {
    if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted");
    Work& work = work_[job.leaf];
    if (work.elements() == 0) {
      digests_[job.leaf] = begin_leaf(*work.target).value();
    } else if (!work.maker) {
      digests_[job.leaf] = stored_bytes_leaf(model_.leaves[job.leaf]);
      advance(work.elements());
    } else if (work.split) {
      take_band(job, work, buffers);
    } else {
      digests_[job.leaf] = whole_leaf(work, buffers);
    }
  }

  void take_band(const Job& job, Work& work, Buffers& buffers) {
    {
      const std::scoped_lock lock(mutex_);
      if (work.rows.empty()) work.rows.resize(static_cast<std::size_t>(work.target->rows));
    }
    digest_band(work, job.rows, buffers,
                std::span(work.rows).subspan(static_cast<std::size_t>(job.rows.begin),
                                             static_cast<std::size_t>(job.rows.size())));
    advance(static_cast<std::uint64_t>(job.rows.size() * work.target->columns));
    if (work.rows_left.fetch_sub(job.rows.size(), std::memory_order_acq_rel) != job.rows.size()) return;
    Xxh3_128 digest = begin_leaf(*work.target);
    for (const Digest128& row : work.rows) add_digest(digest, row);
    digests_[job.leaf] = digest.value();
    std::vector<Digest128>().swap(work.rows);
  }

  Digest128 whole_leaf(const Work& work, Buffers& buffers) {
    Xxh3_128 digest = begin_leaf(*work.target);
    std::vector<Digest128> rows;
    for (std::int64_t row = 0; row < work.target->rows; row += work.height) {
      if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted");
      const RowRange band{row, std::min(work.target->rows, row + work.height)};
      rows.resize(static_cast<std::size_t>(band.size()));
      digest_band(work, band, buffers, rows);
      for (const Digest128& one : rows) add_digest(digest, one);
      advance(static_cast<std::uint64_t>(band.size() * work.target->columns));
    }
    return digest.value();
  }

  /// Of a tensor without values: its arrays' bytes, one behind the other, are its only row.
  Digest128 stored_bytes_leaf(const Leaf& leaf) const {
    const Checkpoint& checkpoint = *paths_[leaf.path].checkpoint;
    Xxh3_128 row;
    std::vector<std::byte> buffer;
    for (const std::size_t index : leaf.stored->arrays) {
      const StoredArray& array = checkpoint.arrays[index];
      for (std::uint64_t done = 0; done < array.bytes; done += buffer.size()) {
        buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kReadBytes, array.bytes - done)));
        checkpoint.files[array.file].file->read_at(array.offset + done, buffer);
        row.update(buffer);
      }
    }
    Xxh3_128 digest = begin_leaf(leaf.target);
    add_digest(digest, row.value());
    return digest.value();
  }

  void advance(std::uint64_t elements) {
    if (!progress_) return;
    const std::scoped_lock lock(mutex_);
    done_ += elements;
    progress_(done_, total_);
  }

  const EffectiveModel& model_;
  std::span<const OpenedPath> paths_;
  const DigestProgress& progress_;
  const std::atomic<bool>* cancel_;
  std::deque<Work> work_;  // parallel to the leaves; elements stay where they are
  std::vector<Job> jobs_;
  std::vector<Digest128> digests_;
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

Digest128 digest_wide_row(std::span<const Wide> row) {
  std::vector<float> narrow(row.size());
  bool fits = true;
  for (std::size_t i = 0; i < row.size(); ++i) {
    narrow[i] = static_cast<float>(row[i].high);
    fits = fits && same_number(row[i], Wide{static_cast<double>(narrow[i]), 0});
  }
  if (fits) return digest_row(narrow);
  Xxh3_128 digest;
  for (const Wide& number : row) {
    for (const double half : {number.high, number.low}) {
      const auto bits = std::isnan(half) ? std::uint64_t{0x7FF8} << 48 : std::bit_cast<std::uint64_t>(half);
      add_number(digest, half == 0 ? 0 : bits);
    }
  }
  return digest.value();
}

Digest128 digest_row(std::span<float> row) {
  if (has_special(row)) {
    for (float& value : row) {
      if (value == 0) value = 0.0F;
      if (std::isnan(value)) value = std::bit_cast<float>(0x7FC00000U);
    }
  }
  return Xxh3_128::of(std::as_bytes(row));
}

std::vector<Digest128> digest_leaves(const EffectiveModel& model, std::span<const OpenedPath> paths, int threads,
                                     const DigestProgress& progress, const std::atomic<bool>* cancel) {
  return Digesting(model, paths, progress, cancel).run(threads);
}

ValueDigests combine(const EffectiveModel& model, std::span<const Digest128> digests) {
  ValueDigests result;
  std::map<std::string_view, std::map<std::string, Digest128>> trees;
  for (std::size_t i = 0; i < model.leaves.size(); ++i) {
    const Leaf& leaf = model.leaves[i];
    if (leaf.kind == LeafKind::tied_head) continue;
    result.tensors.emplace(leaf.target.name, digests[i]);
    trees[root(leaf.target.component)].emplace(leaf.target.name, digests[i]);
  }
  Xxh3_128 whole;
  add_text(whole, "model");
  add_number(whole, trees.size());
  for (const std::string_view name : {"text", "mtp", "vision", "adapter"}) {
    const auto tree = trees.find(name);
    if (tree == trees.end()) continue;
    Xxh3_128 digest;
    add_text(digest, name);
    add_number(digest, tree->second.size());
    for (const auto& [leaf, value] : tree->second) add_digest(digest, value);
    add_digest(whole, result.roots.emplace(name, digest.value()).first->second);
  }
  result.model = whole.value();
  return result;
}

ValueDigests value_digests(std::span<const OpenedPath> paths, int threads, const DigestProgress& progress,
                           const std::atomic<bool>* cancel) {
  const EffectiveModel model = effective_model(paths);
  return combine(model, digest_leaves(model, paths, threads, progress, cancel));
}

std::vector<std::pair<std::string, Digest128>> tensor_value_digests(const OpenedPath& path, int threads,
                                                                    const DigestProgress& progress,
                                                                    const std::atomic<bool>* cancel) {
  EffectiveModel model = effective_model(std::span(&path, 1));
  // Factors that lie beside a weight belong to no tensor's own name.
  std::erase_if(model.leaves, [](const Leaf& leaf) {
    return leaf.kind == LeafKind::factor && leaf.target.pieces.front().tensor != leaf.stored;
  });
  const std::vector<Digest128> digests = digest_leaves(model, std::span(&path, 1), threads, progress, cancel);
  std::vector<std::pair<std::string, Digest128>> result;
  for (std::size_t i = 0; i < digests.size();) {
    const Tensor* tensor = model.leaves[i].stored;
    std::size_t end = i;
    Xxh3_128 several;
    for (; end < digests.size() && model.leaves[end].stored == tensor; ++end) add_digest(several, digests[end]);
    result.emplace_back(tensor->name, end - i == 1 ? digests[i] : several.value());
    i = end;
  }
  return result;
}

}  // namespace regauge
