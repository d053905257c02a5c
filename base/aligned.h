#pragma once

#include <cstddef>
#include <new>

namespace regauge {

/// Memory that begins at a cache line, so that no vector that a loop stores to it lies across two.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  CacheLineAllocator() = default;
  template <typename U>
  explicit(false) CacheLineAllocator(const CacheLineAllocator<U>& /*other*/) noexcept {}

  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* memory, std::size_t count) noexcept { ::operator delete(memory, count * sizeof(T), kLine); }

  friend bool operator==(CacheLineAllocator, CacheLineAllocator) noexcept { return true; }
};

}  // namespace regauge
