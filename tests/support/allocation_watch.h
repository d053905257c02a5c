#pragma once

#include <cstddef>

namespace regauge::testing {

/// Records what operator new is asked for while it lives, on every thread. A program that uses it has its own operator
/// new (this one), which passes everything on to malloc. One at a time.
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
