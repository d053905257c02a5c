#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "formats/container/codec.h"
#include "formats/container/keys.h"
#include "formats/container/layout.h"

namespace regauge::container {

/// Raw bytes of a chunk: enough for zstd to do well, little enough to be decoded for a strip of it.
inline constexpr std::uint32_t kChunkBytes = std::uint32_t{4} << 20;
/// The largest chunk that is read: what one of them may make us allocate.
inline constexpr std::uint32_t kMaxChunkBytes = std::uint32_t{16} << 20;

/// How the parts are cut into chunks, all parts one behind the other.
struct ChunkTable {
  std::uint32_t chunk_bytes = kChunkBytes;
  std::vector<std::size_t> first;     ///< chunk of each part; one more entry for the end
  std::vector<std::uint32_t> stored;  ///< bytes of each chunk in the container
  std::vector<std::uint8_t> coding;   ///< Coding of each chunk
  std::vector<Digest128> digests;     ///< of each chunk's raw bytes

  /// Cuts parts of these sizes; the columns that writing fills have as many entries as there are chunks.
  static ChunkTable cut(const std::vector<Part>& parts, std::uint32_t chunk_bytes);

  std::size_t size() const noexcept { return stored.size(); }
  /// The part that a chunk belongs to.
  std::size_t part_of(std::size_t chunk) const;
  /// Where a chunk begins in its part, in raw bytes.
  std::uint64_t begin(std::size_t part, std::size_t chunk) const {
    return (chunk - first[part]) * std::uint64_t{chunk_bytes};
  }
  std::uint64_t raw_bytes(const std::vector<Part>& parts, std::size_t part, std::size_t chunk) const;
};

/// The table as keys, every one of a length that depends on the parts' sizes alone.
void append_chunk_keys(Metadata& keys, const ChunkTable& table);
/// Reads and checks the table for these parts. Throws Error{malformed} with key and offset.
ChunkTable read_chunk_table(const KeyReader& keys, const std::vector<Part>& parts);

/// Chunks that were decoded last, shared by all threads and at most kBytes of them, so that neighbouring strips and small
/// reads decode a chunk once and memory does not grow with threads. A chunk that two threads want at once is decoded by
/// one of them.
class ChunkCache {
 public:
  /// Enough for the strips of one large transposed matrix.
  static constexpr std::uint64_t kBytes = std::uint64_t{128} << 20;

  using Bytes = std::vector<std::byte>;

  explicit ChunkCache(std::uint32_t chunk_bytes);

  /// The raw bytes of a chunk: those kept, or what `decode()` makes. What it throws goes through, and nothing is kept.
  template <typename Decode>
  std::shared_ptr<const Bytes> get(std::size_t chunk, Decode decode) {
    const std::shared_ptr<Slot> slot = slot_of(chunk);
    const std::lock_guard lock(slot->mutex);
    if (!slot->bytes) slot->bytes = std::make_shared<const Bytes>(decode());
    return slot->bytes;
  }

 private:
  struct Slot {
    std::size_t chunk = 0;
    std::uint64_t used = 0;  // when it was asked for last; guarded by the cache's mutex
    std::mutex mutex;
    std::shared_ptr<const Bytes> bytes;
  };

  std::shared_ptr<Slot> slot_of(std::size_t chunk);

  const std::size_t capacity_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Slot>> slots_;
  std::uint64_t clock_ = 0;
};

}  // namespace regauge::container
