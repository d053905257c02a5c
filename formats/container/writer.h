#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/output_file.h"
#include "formats/container/chunks.h"
#include "formats/container/describe.h"
#include "formats/container/layout.h"
#include "formats/format.h"

namespace regauge::container {

struct ContainerOptions {
  bool zstd = false;
  int level = 3;  ///< of zstd
  std::uint32_t chunk_bytes = kChunkBytes;
  ValueDigests value_digests = {};  ///< by tensor name, to be kept with the description
};

/// A unit of a compressed container, made by any thread and written in its turn.
struct CompressedUnit {
  std::vector<std::byte> raw;
  EncodedChunk encoded;
  Digest128 digest;  ///< of the raw bytes
};

/// Writes a whole checkpoint as a container. begin() says what; the units, which are independent of each other, are then
/// either written from any thread in any order, each one part (uncompressed), or compressed by any thread and appended in
/// order, each one chunk (zstd). The bytes do not depend on threads; those of zstd depend on its version, which they name.
/// Given up before commit() it leaves the target as it was.
class ContainerWriter {
 public:
  /// Throws as OutputFile::create does. A container is always written anew: `resume` discards what was left.
  ContainerWriter(const std::filesystem::path& target, const WriteOptions& options);

  /// `source` must outlive the writer. Throws what describe() throws, and Error{io} when the disk is too small.
  void begin(const Checkpoint& source, const ContainerOptions& options = {});

  /// Whether units are to be compressed and appended; else written.
  bool is_sequential() const noexcept { return chunks_.has_value(); }
  std::size_t units() const noexcept;
  /// Bytes of the source that a unit stands for, for progress and for cutting work.
  std::uint64_t unit_bytes(std::size_t unit) const;

  /// Reads a part from the source and writes it to its place.
  void write(std::size_t unit);
  /// Reads a chunk from the source and compresses it.
  CompressedUnit compress(std::size_t unit) const;
  /// Takes the units 0, 1, 2 ...; one caller at a time.
  void append(std::size_t unit, const CompressedUnit& compressed);

  /// Writes the header. Throws Error{internal} when units are missing.
  void seal();
  void commit() { output_.commit(); }
  void finish() {
    seal();
    commit();
  }
  /// The container as it lies between seal() and commit().
  std::filesystem::path sealed_path() const { return output_.partial(); }
  /// Size of the file: known after begin(), of a compressed one after the last append().
  std::uint64_t file_bytes() const noexcept { return position_; }
  /// The root digest: known after seal().
  const Digest128& root() const noexcept { return root_; }

 private:
  /// A part as a tensor of the container.
  struct Place {
    std::vector<std::int64_t> ne;
    std::uint32_t type = 0;
    std::uint64_t offset = 0;  // in the data section
  };

  void place_parts();
  Place place_of(std::size_t part) const;
  std::vector<std::byte> header() const;
  void read_source(std::size_t part, std::uint64_t offset, std::span<std::byte> out) const;
  void close_parts();

  OutputFile output_;
  const Checkpoint* source_ = nullptr;
  int level_ = 0;
  std::vector<std::size_t> arrays_;  // described array -> index in the checkpoint
  std::vector<bool> is_big_endian_;  // of each file
  Metadata description_;
  std::vector<Member> members_;
  std::size_t files_ = 0;
  std::optional<Layout> layout_;
  std::vector<Place> places_;
  std::vector<Digest128> digests_;
  Digest128 root_;
  std::uint64_t header_bytes_ = 0;
  std::uint64_t position_ = 0;  // end of what is written or, uncompressed, of the file
  std::atomic<std::size_t> written_ = 0;

  std::optional<ChunkTable> chunks_;
  std::size_t next_chunk_ = 0;
  std::size_t open_part_ = 0;
  std::uint64_t open_begin_ = 0;
  std::optional<Xxh3_128> open_digest_;
};

}  // namespace regauge::container
