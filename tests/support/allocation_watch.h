#pragma once

#include <cstddef>

namespace regauge::testing {

/// Records what operator new is asked for while it lives, on every thread. One at a time. For the corrupt_test program
/// alone, whose operator new is its own (tests/corrupt/allocation_watch_test.cpp) and passes everything on to malloc.
class AllocationWatch {
 public:
  AllocationWatch();
  ~AllocationWatch();
  AllocationWatch(const AllocationWatch&) = delete;
  AllocationWatch& operator=(const AllocationWatch&) = delete;

  /// The largest single request so far, in bytes.
  std::size_t largest() const;
};

}  // namespace regauge::testing
