#include "formats/container/chunks.h"

#include <algorithm>
#include <bit>

#include "base/checked.h"
#include "base/zstd.h"

namespace regauge::container {
namespace {

constexpr std::string_view kChunkBytesKey = "regauge.container.chunk_bytes";
constexpr std::string_view kStoredKey = "regauge.container.chunk_stored";
constexpr std::string_view kCodingKey = "regauge.container.chunk_coding";
constexpr std::string_view kDigestKey = "regauge.container.chunk_digests";
constexpr std::string_view kZstdKey = "regauge.container.zstd_version";

constexpr std::uint32_t kMinChunkBytes = 1 << 10;
// More slots would make looking for one slow, and only tests have chunks so small.
constexpr std::size_t kMaxSlots = 64;

std::uint64_t chunks_in(std::uint64_t bytes, std::uint32_t chunk_bytes) {
  return bytes / chunk_bytes + (bytes % chunk_bytes != 0 ? 1 : 0);
}

}  // namespace

ChunkTable ChunkTable::cut(const std::vector<Part>& parts, std::uint32_t chunk_bytes) {
  if (chunk_bytes < kMinChunkBytes || chunk_bytes > kMaxChunkBytes || !std::has_single_bit(chunk_bytes)) {
    throw Error(ErrorCode::invalid, "chunks have a power of two of bytes, {} to {}, and {} is none", kMinChunkBytes,
                kMaxChunkBytes, chunk_bytes);
  }
  ChunkTable table;
  table.chunk_bytes = chunk_bytes;
  table.first.reserve(parts.size() + 1);
  std::size_t chunks = 0;
  for (const Part& part : parts) {
    table.first.push_back(chunks);
    chunks += static_cast<std::size_t>(chunks_in(part.bytes, chunk_bytes));
  }
  table.first.push_back(chunks);
  table.stored.resize(chunks);
  table.coding.resize(chunks);
  table.digests.resize(chunks);
  return table;
}

std::size_t ChunkTable::part_of(std::size_t chunk) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(first, chunk) - first.begin()) - 1;
}

std::uint64_t ChunkTable::raw_bytes(const std::vector<Part>& parts, std::size_t part, std::size_t chunk) const {
  return std::min<std::uint64_t>(chunk_bytes, parts.at(part).bytes - begin(part, chunk));
}

void append_chunk_keys(Metadata& keys, const ChunkTable& table) {
  keys.append(std::string(kZstdKey), zstd_version());
  keys.append(std::string(kChunkBytesKey), table.chunk_bytes);
  if (table.size() == 0) return;
  std::vector<std::string> digests;
  digests.reserve(table.size());
  for (const Digest128& digest : table.digests) digests.push_back(hex(digest));
  keys.append(std::string(kStoredKey), MetaArray{MetaType::u32, table.stored});
  keys.append(std::string(kCodingKey), MetaArray{MetaType::u8, table.coding});
  keys.append(std::string(kDigestKey), MetaArray{MetaType::string, std::move(digests)});
}

ChunkTable read_chunk_table(const KeyReader& keys, const std::vector<Part>& parts) {
  const auto chunk_bytes = keys.get<std::uint32_t>(kChunkBytesKey);
  if (chunk_bytes < kMinChunkBytes || chunk_bytes > kMaxChunkBytes || !std::has_single_bit(chunk_bytes)) {
    throw keys.fail(kChunkBytesKey, "is {}, which is no size of a chunk", chunk_bytes);
  }
  // Counted before anything is made of it: sizes are claims until the table bears them out.
  std::uint64_t expected = 0;
  for (const Part& part : parts) {
    const auto sum = checked_add(expected, chunks_in(part.bytes, chunk_bytes));
    if (!sum) throw keys.fail(kChunkBytesKey, "is too small for the parts");
    expected = *sum;
  }
  if (expected == 0) return ChunkTable::cut(parts, chunk_bytes);
  const auto& stored = keys.list<std::uint32_t>(kStoredKey, MetaType::u32);
  const auto& coding = keys.list<std::uint8_t>(kCodingKey, MetaType::u8);
  const auto& digests = keys.texts(kDigestKey);
  const auto check_count = [&](std::string_view key, std::size_t count) {
    if (count != expected) throw keys.fail(key, "has {} entries for {} chunks", count, expected);
  };
  check_count(kStoredKey, stored.size());
  check_count(kCodingKey, coding.size());
  check_count(kDigestKey, digests.size());
  ChunkTable table = ChunkTable::cut(parts, chunk_bytes);
  for (std::size_t part = 0; part < parts.size(); ++part) {
    for (std::size_t chunk = table.first[part]; chunk < table.first[part + 1]; ++chunk) {
      const std::uint64_t raw = table.raw_bytes(parts, part, chunk);
      if (coding[chunk] > static_cast<std::uint8_t>(Coding::zstd_planes)) {
        throw keys.fail(kCodingKey, "at {}: a chunk is stored in the unknown way {}", chunk, coding[chunk]);
      }
      const bool fits = coding[chunk] == static_cast<std::uint8_t>(Coding::raw)
                            ? stored[chunk] == raw
                            : stored[chunk] > 0 && stored[chunk] < raw;
      if (!fits) throw keys.fail(kStoredKey, "at {}: {} bytes for a chunk of {}", chunk, stored[chunk], raw);
      const auto digest = digest128_from_hex(digests[chunk]);
      if (!digest) throw keys.fail(kDigestKey, "at {}: is no digest", chunk);
      table.digests[chunk] = *digest;
    }
  }
  table.stored = stored;
  table.coding = coding;
  return table;
}

ChunkCache::ChunkCache(std::uint32_t chunk_bytes)
    : capacity_(std::clamp<std::size_t>(kBytes / std::max<std::uint32_t>(chunk_bytes, 1), 1, kMaxSlots)) {}

std::shared_ptr<ChunkCache::Slot> ChunkCache::slot_of(std::size_t chunk) {
  const std::lock_guard lock(mutex_);
  auto slot = std::ranges::find(slots_, chunk, [](const auto& one) { return one->chunk; });
  if (slot == slots_.end()) {
    // The one that leaves may still be in use: whoever uses it holds it.
    if (slots_.size() >= capacity_)
      slots_.erase(std::ranges::min_element(slots_, {}, [](const auto& one) { return one->used; }));
    slots_.push_back(std::make_shared<Slot>());
    slot = slots_.end() - 1;
    (*slot)->chunk = chunk;
  }
  (*slot)->used = ++clock_;
  return *slot;
}

}  // namespace regauge::container
