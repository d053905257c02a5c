#include "base/buffer.h"

#include <sys/mman.h>

namespace regauge::detail {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = 2 << 20;

/// Two huge pages at least: else most of it would lie beside them.
std::align_val_t alignment_of(std::size_t bytes) { return std::align_val_t{bytes < 2 * kHugePage ? kLine : kHugePage}; }

}  // namespace

void* allocate_buffer(std::size_t bytes) {
  void* memory = ::operator new(bytes, alignment_of(bytes));
  // A hint: what a system without them makes of it is as good, only slower. A last page would be larger than what was asked for.
  if (bytes >= 2 * kHugePage) ::madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return memory;
}

void free_buffer(void* memory, std::size_t bytes) noexcept { ::operator delete(memory, alignment_of(bytes)); }

}  // namespace regauge::detail
