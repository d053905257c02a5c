#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace regauge {

/// Lets numbers 0, 1, 2, ... through in this order, whichever thread brings them: how bands reach a writer that takes them
/// in order only. Numbers are handed out in order too, so whoever has the lowest is at work and nobody waits for ever.
class Turnstile {
 public:
  /// Waits until every number below `number` has passed. False when the turnstile was given up meanwhile.
  bool wait(std::size_t number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return given_up_ || next_ == number; });
    return !given_up_;
  }
  /// The number that wait() let in is through.
  void pass() {
    const std::scoped_lock lock(mutex_);
    ++next_;
    changed_.notify_all();
  }
  /// Somebody failed: nobody waits any more.
  void give_up() {
    const std::scoped_lock lock(mutex_);
    given_up_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t next_ = 0;
  bool given_up_ = false;
};

}  // namespace regauge
