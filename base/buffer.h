#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace regauge {

/// Memory that is filled before it is read: elements that come without a value are left as the memory is. It begins at a
/// cache line, so that no vector that a loop stores lies across two, and what is large asks for pages that are.
template <typename T>
struct BufferAllocator {
  using value_type = T;  // NOLINT(readability-identifier-naming): the standard says how

  BufferAllocator() = default;
  template <typename U>
  explicit(false) BufferAllocator(const BufferAllocator<U>& /*other*/) noexcept {}

  T* allocate(std::size_t count);
  void deallocate(T* memory, std::size_t count) noexcept;

  template <typename U>
  void construct(U* element) noexcept {
    ::new (static_cast<void*>(element)) U;
  }
  template <typename U, typename... Arguments>
  void construct(U* element, Arguments&&... arguments) {
    std::construct_at(element, std::forward<Arguments>(arguments)...);
  }

  friend bool operator==(BufferAllocator, BufferAllocator) noexcept { return true; }
};

namespace detail {

void* allocate_buffer(std::size_t bytes);
void free_buffer(void* memory, std::size_t bytes) noexcept;

}  // namespace detail

template <typename T>
T* BufferAllocator<T>::allocate(std::size_t count) {
  return static_cast<T*>(detail::allocate_buffer(count * sizeof(T)));
}

template <typename T>
void BufferAllocator<T>::deallocate(T* memory, std::size_t count) noexcept {
  detail::free_buffer(memory, count * sizeof(T));
}

/// Values or bytes of a band.
template <typename T>
using Buffer = std::vector<T, BufferAllocator<T>>;

/// Makes `buffer` hold `count` elements without ever holding the old and the new ones together; what it held is gone.
template <typename T>
void refit(Buffer<T>& buffer, std::size_t count) {
  if (buffer.capacity() < count) {
    Buffer<T>().swap(buffer);
    buffer.reserve(count);
  }
  buffer.resize(count);
}

}  // namespace regauge
