#include "convert/copy_whole.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "convert/workers.h"

namespace regauge {
namespace {

/// Units that may be prepared and not yet written: some for each worker, so that none waits for a slow neighbour.
constexpr std::size_t kWindowPerWorker = 4;

class Run {
 public:
  Run(WholeWriter& writer, const ProgressFn& progress, const std::atomic<bool>* cancel)
      : writer_(writer), progress_(progress), cancel_(cancel) {
    for (std::size_t unit = 0; unit < writer.units(); ++unit) seen_.bytes_total += writer.unit_bytes(unit);
  }

  void in_any_order(Workers& workers) {
    workers.for_each(writer_.units(), [this](std::size_t unit, std::size_t) {
      check();
      writer_.write(unit, *writer_.prepare(unit));
      account(unit);
    });
  }

  /// A window of units is prepared by all workers, then written.
  void in_order(Workers& workers) {
    std::vector<std::unique_ptr<WholeWriter::Prepared>> window(kWindowPerWorker *
                                                               static_cast<std::size_t>(workers.count()));
    for (std::size_t first = 0; first < writer_.units(); first += window.size()) {
      const std::size_t count = std::min(window.size(), writer_.units() - first);
      workers.for_each(count, [&](std::size_t i, std::size_t) {
        check();
        window[i] = writer_.prepare(first + i);
      });
      for (std::size_t i = 0; i < count; ++i) {
        writer_.write(first + i, *window[i]);
        window[i].reset();
        account(first + i);
      }
    }
  }

 private:
  void check() const {
    if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted; nothing was written");
  }

  void account(std::size_t unit) {
    const std::scoped_lock lock(mutex_);
    seen_.bytes_done += writer_.unit_bytes(unit);
    if (progress_) progress_(seen_);
  }

  WholeWriter& writer_;
  const ProgressFn& progress_;
  const std::atomic<bool>* cancel_;
  std::mutex mutex_;
  Progress seen_;
};

}  // namespace

void copy_whole(WholeWriter& writer, int threads, const ProgressFn& progress, const std::atomic<bool>* cancel) {
  Run run(writer, progress, cancel);
  Workers workers(threads);
  if (writer.in_order()) {
    run.in_order(workers);
  } else {
    run.in_any_order(workers);
  }
  writer.seal();
}

void check_copy(const Checkpoint& source, const Checkpoint& copy) {
  constexpr std::uint64_t kPieceBytes = 4 << 20;
  if (source.arrays.size() != copy.arrays.size()) {
    throw Error(ErrorCode::internal, "the copy holds {} arrays, the source {}", copy.arrays.size(),
                source.arrays.size())
        .at(copy.path);
  }
  std::vector<std::byte> wanted;
  std::vector<std::byte> found;
  for (const StoredArray& array : source.arrays) {
    const StoredArray* other = copy.find_array(array.name);
    if (other == nullptr || other->bytes != array.bytes)
      throw Error(ErrorCode::internal, "is missing from the copy or has another size").tensor(array.name).at(copy.path);
    for (std::uint64_t at = 0; at < array.bytes; at += kPieceBytes) {
      wanted.resize(static_cast<std::size_t>(std::min(kPieceBytes, array.bytes - at)));
      found.resize(wanted.size());
      source.files[array.file].file->read_at(array.offset + at, wanted);
      copy.files[other->file].file->read_at(other->offset + at, found);
      if (wanted != found)
        throw Error(ErrorCode::internal, "the copy differs from the source")
            .tensor(array.name)
            .at(copy.path)
            .offset(at);
    }
  }
}

}  // namespace regauge
