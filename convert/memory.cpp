#include "convert/memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "convert/workers.h"
#include "ir/low_rank.h"

namespace regauge {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
// Without --max-memory: enough for bands of 4 MiB of output and the values behind them.
constexpr std::uint64_t kUsualWorkerBytes = 80 * kMiB;
// Below this bands get so low that reads get short; fewer workers are better then.
constexpr std::uint64_t kLeastWorkerBytes = 4 * kMiB;
// What a run costs beside its buffers: stacks, the allocator's own, the scheduler.
constexpr std::uint64_t kRunReserve = 6 * kMiB;
constexpr std::uint64_t kWorkerReserve = 2 * kMiB;
// A thread that plans reads scales in bands of 8 MiB and codes with their zero points.
constexpr std::uint64_t kPlanningBytes = 32 * kMiB;

/// Source bytes of a row of `piece`, a byte a code unless it is taken `packed`.
std::uint64_t row_bytes_of(const TargetPiece& piece, bool packed) {
  const Tensor& tensor = *piece.tensor;
  const auto own = static_cast<std::uint64_t>(std::max<std::int64_t>(tensor.shape.columns(), 1));
  std::uint64_t bytes = 0;
  for (const Part& part : tensor.parts) {
    if (part.id == PartId::group_index || part.id == PartId::global_scale || part.id == PartId::lowrank_a) continue;
    bytes += (packed && part.id == PartId::codes ? part.rows->packed() : part.rows)->row_bytes();
  }
  return (bytes * static_cast<std::uint64_t>(piece.source_columns) + own - 1) / own;
}

/// What is held once, whatever the height: group indices and column orders, low-rank factors.
std::uint64_t fixed_bytes_of(const TargetPiece& piece) {
  std::uint64_t bytes = 32 * static_cast<std::uint64_t>(piece.source_columns);
  // Of a stack of weights one has its factor decoded at a time.
  if (piece.tensor->has_low_rank())
    bytes += 8 * static_cast<std::uint64_t>(low_rank_groups(*piece.tensor).rank * piece.tensor->shape.columns());
  return bytes;
}

struct Cost {
  std::uint64_t fixed = 0;
  std::uint64_t per_row = 0;
};

Cost cost_of(const Step& step, const Target& target, bool verify) {
  std::uint64_t source_row = 0;
  std::uint64_t source_columns = 0;
  std::int64_t quantum = 1;
  // Checking decodes, and there codes are a byte each.
  const bool packed = step.maker->is_packed() && !verify;
  Cost cost;
  for (const TargetPiece& piece : target.pieces) {
    source_row = std::max(source_row, row_bytes_of(piece, packed));
    source_columns = std::max(source_columns, static_cast<std::uint64_t>(piece.source_columns));
    quantum = std::max(quantum, piece.tensor->row_quantum());
    cost.fixed = std::max(cost.fixed, fixed_bytes_of(piece));
  }
  std::uint64_t out_row = 0;
  for (const StepArray& array : step.arrays) {
    if (array.layout == BandLayout::whole) {
      cost.fixed += array.plan.bytes() * (verify ? 2 : 1);
    } else {
      out_row += array.plan.bytes() / static_cast<std::uint64_t>(std::max<std::int64_t>(target.rows, 1)) + 1;
    }
  }
  const auto columns = static_cast<std::uint64_t>(target.columns);
  // Values as they are decoded and as the target orders them; a repack has codes instead.
  const std::uint64_t values = 4 * (source_columns + columns);
  // Source rows as stored, unpacked, and once more where a band does not begin on a word; 128 for the runs of a row order.
  std::uint64_t row = 3 * source_row + 128;
  if (step.route == Route::reencode || verify) {
    row += values;
  } else if (step.route == Route::repack && !packed) {
    row += 2 * columns;
  }
  // A route that rounds decodes what it has made (convert/route/measured.h).
  if (step.fidelity > Fidelity::values && step.route == Route::repack) row += 12 * columns + (verify ? 0 : values);
  if (verify) row += out_row + 8 * columns;
  row = std::max(row, static_cast<std::uint64_t>(std::max<std::int64_t>(step.maker->bytes_per_row(), 0)));
  cost.per_row = row + out_row;
  if (const std::int64_t tile = step.maker->tile_rows(); tile != 0 && !verify) {
    cost.fixed += static_cast<std::uint64_t>(tile) * row;
    cost.per_row = out_row;
  }
  // Rows that are read because a word holds them too.
  cost.fixed += 2 * static_cast<std::uint64_t>(quantum - 1) * row;
  return cost;
}

/// The step whose smallest band takes most, and how much that is.
struct Tightest {
  const Step* step = nullptr;
  std::uint64_t bytes = 0;
};

Tightest tightest(const Plan& plan, bool verify) {
  Tightest found;
  for (const PlannedOutput& output : plan.outputs) {
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      const std::uint64_t bytes = band_bytes(output.steps[s], output.targets[s], output.steps[s].quantum, verify);
      if (found.step == nullptr || bytes > found.bytes) found = {&output.steps[s], bytes};
    }
  }
  return found;
}

}  // namespace

std::uint64_t band_bytes(const Step& step, const Target& target, std::int64_t rows, bool verify) {
  const Cost cost = cost_of(step, target, verify);
  return cost.fixed + cost.per_row * static_cast<std::uint64_t>(std::min(rows, target.rows));
}

std::int64_t band_height(const Step& step, const Target& target, std::uint64_t worker_bytes, bool verify) {
  const Cost cost = cost_of(step, target, verify);
  // A quarter stays for steps of other kinds, so that a worker need not give up its buffers between two.
  const std::uint64_t most = worker_bytes - worker_bytes / 4;
  const std::uint64_t fit = most > cost.fixed ? (most - cost.fixed) / cost.per_row : 0;
  const std::int64_t wanted = std::max<std::int64_t>(step.maker->band_rows(), 1);
  const auto height = static_cast<std::int64_t>(std::min<std::uint64_t>(fit, static_cast<std::uint64_t>(wanted)));
  return std::max(height / step.quantum, std::int64_t{1}) * step.quantum;
}

MemoryShare share_memory(const Plan& plan, const ConvertOptions& options, std::uint64_t held) {
  const int threads = Workers(options.threads).count();
  if (options.max_memory == 0) return {threads, kUsualWorkerBytes};
  const Tightest most = tightest(plan, options.verify);
  const std::uint64_t least = std::max(most.bytes, kLeastWorkerBytes) + kWorkerReserve;
  const std::uint64_t taken = held + kRunReserve;
  if (options.max_memory < taken + most.bytes + kWorkerReserve) {
    Error error(ErrorCode::invalid, "{} bytes of memory are not enough: {} are needed", options.max_memory,
                taken + most.bytes + kWorkerReserve);
    if (most.step != nullptr) error.tensor(most.step->name);
    throw std::move(error);
  }
  const std::uint64_t free = options.max_memory - taken;
  const auto workers =
      static_cast<int>(std::clamp<std::uint64_t>(free / least, 1, static_cast<std::uint64_t>(threads)));
  return {workers, free / static_cast<std::uint64_t>(workers) - kWorkerReserve};
}

int planning_threads(const ConvertOptions& options) {
  const int threads = Workers(options.threads).count();
  if (options.max_memory == 0) return threads;
  return static_cast<int>(
      std::clamp<std::uint64_t>(options.max_memory / kPlanningBytes, 1, static_cast<std::uint64_t>(threads)));
}

std::uint64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  constexpr std::string_view kField = "RssAnon:";
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kField)) continue;
    const auto digit = line.find_first_of("0123456789");
    if (digit == std::string::npos) return 0;
    std::uint64_t kib = 0;
    std::from_chars(line.data() + digit, line.data() + line.size(), kib);
    return kib * 1024;
  }
  return 0;
}

}  // namespace regauge
