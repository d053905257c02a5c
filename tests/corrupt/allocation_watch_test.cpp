#include "tests/support/allocation_watch.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include <gtest/gtest.h>

namespace {

std::atomic<bool> is_watching = false;
std::atomic<std::size_t> largest_request = 0;

void* allocate_or_null(std::size_t bytes, std::size_t alignment) noexcept {
  if (is_watching) {
    std::size_t known = largest_request;
    while (bytes > known && !largest_request.compare_exchange_weak(known, bytes)) {
    }
  }
  if (bytes == 0) bytes = 1;
  // NOLINTNEXTLINE(cppcoreguidelines-no-malloc): this is operator new
  if (alignment <= alignof(std::max_align_t)) return std::malloc(bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  void* memory = allocate_or_null(bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Not inlined: g++ 12 would see free() after operator new and take our own pair for a mismatch.
// NOLINTNEXTLINE(cppcoreguidelines-no-malloc): this is operator delete
[[gnu::noinline]] void release(void* memory) noexcept { std::free(memory); }

}  // namespace

// All forms: the sanitizer's runtime has its own of those that are missing here, and they do not go together.
void* operator new(std::size_t bytes) { return allocate(bytes, 1); }
void* operator new[](std::size_t bytes) { return allocate(bytes, 1); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate_or_null(bytes, 1); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate_or_null(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { release(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace regauge::testing {

AllocationWatch::AllocationWatch() {
  largest_request = 0;
  is_watching = true;
}

AllocationWatch::~AllocationWatch() { is_watching = false; }

std::size_t AllocationWatch::largest() const { return largest_request; }

namespace {

TEST(AllocationWatch, RecordsTheLargestRequestWhileItLives) {
  const std::vector<char> before(5'000'000);
  const AllocationWatch watch;
  EXPECT_LT(watch.largest(), 1'000U);
  const std::vector<char> small(10'000);
  const std::vector<char> large(2'000'000);
  const auto array = std::make_unique<char[]>(30'000);
  EXPECT_EQ(watch.largest(), large.capacity());
}

}  // namespace
}  // namespace regauge::testing
