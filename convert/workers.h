#pragma once

#include <utility>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/task_arena.h>

namespace regauge {

/// An arena of exactly as many workers as asked for: without the global control oneTBB would cut a larger number down to
/// the cores and complain on standard error.
class Workers {
 public:
  /// `threads` 0: one for each core.
  explicit Workers(int threads) : count_(threads > 0 ? threads : tbb::info::default_concurrency()) {}

  template <typename Work>
  void run(Work&& work) {
    arena_.execute(std::forward<Work>(work));
  }

 private:
  int count_;
  tbb::global_control limit_{tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(count_)};
  tbb::task_arena arena_{count_};
};

}  // namespace regauge
