#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

namespace regauge {

/// An arena of exactly as many workers as asked for: without the global control oneTBB would cut a larger number down to
/// the cores and complain on standard error.
class Workers {
 public:
  /// `threads` 0: one for each core.
  explicit Workers(int threads) : count_(threads > 0 ? threads : tbb::info::default_concurrency()) {}

  int count() const noexcept { return count_; }

  /// Calls work(i, worker) for every i in [0, count), begun in order, each by one of count() workers that take the next as
  /// soon as they are free. `worker` is in [0, count()) and never two calls' at once. The first exception ends the
  /// run: what has begun is finished, nothing else begins, and it is thrown here.
  template <typename Work>
  void for_each(std::size_t count, const Work& work) {
    std::atomic<std::size_t> next = 0;
    std::atomic<bool> failed = false;
    const auto take_turns = [&](std::size_t worker) {
      synchronise();
      while (!failed.load(std::memory_order_relaxed)) {
        const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= count) break;
        try {
          work(i, worker);
        } catch (...) {
          failed = true;
          synchronise();
          throw;
        }
      }
      synchronise();
    };
    synchronise();
    arena_.execute([&] {
      tbb::parallel_for(std::size_t{0}, static_cast<std::size_t>(count_), take_turns, tbb::simple_partitioner());
    });
    synchronise();
  }

 private:
  /// oneTBB guarantees that a task sees what came before it and that the caller sees what tasks did. This says the same
  /// where a thread sanitizer can see it, which knows nothing of the library's inside. No member of an object: a task must
  /// get here before it reads anything that another thread has written, the way to an object included.
  static void synchronise() noexcept { fence.fetch_add(1, std::memory_order_acq_rel); }
  static inline std::atomic<unsigned> fence = 0;

  int count_;
  tbb::global_control limit_{tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(count_)};
  // oneTBB's own 4 MiB for each thread would be most of a small --max-memory, for calls that go a few frames deep.
  tbb::global_control stack_{tbb::global_control::thread_stack_size, std::size_t{1} << 20};
  tbb::task_arena arena_{count_};
};

}  // namespace regauge
