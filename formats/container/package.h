#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "base/finding.h"
#include "base/folder.h"
#include "formats/container/chunks.h"
#include "formats/container/description.h"
#include "formats/container/layout.h"

namespace regauge::container {

/// The version that a GGUF file announces in `head`, its first bytes, when it is a container.
std::optional<std::uint32_t> announced_version(std::span<const std::byte> head);

/// An opened container: its header checked, its data read on demand, in parts or as the files that they make up. Safe
/// from any thread.
class Package {
 public:
  /// Throws Error{unsupported} for a newer version, naming both, and Error{malformed} for everything that does not fit
  /// together, the root digest included.
  static std::shared_ptr<const Package> open(std::shared_ptr<const File> file);

  const File& file() const noexcept { return *file_; }
  const Description& description() const noexcept { return description_; }
  const Layout& layout() const noexcept { return *layout_; }
  bool is_compressed() const noexcept { return chunks_.has_value(); }
  const Digest128& root() const noexcept { return root_; }
  const Digest128& part_digest(std::size_t part) const { return digests_.at(part); }

  /// Files first, then sidecars.
  const Member& member(std::size_t index) const;
  /// The file that a part is of, and in an array's case the array's name.
  const Member& member_of(std::size_t part) const;
  std::string array_name(std::size_t part) const;

  /// Throws Error{malformed}, naming array and offset, for a chunk that is damaged; bytes that are not compressed are not
  /// checked here.
  void read_part(std::size_t part, std::uint64_t offset, std::span<std::byte> out) const;
  void read_member(std::size_t member, std::uint64_t offset, std::span<std::byte> out) const;

  /// Reads a part and holds it against its digest: a finding when it is damaged.
  std::optional<Finding> check_part(std::size_t part) const;

 private:
  Package() = default;

  void read_header();
  void check_sizes(const KeyReader& keys, const gguf::Header& header);
  std::vector<std::byte> decode(std::size_t part, std::size_t chunk) const;
  Error damaged(std::size_t part, std::uint64_t at, const std::string& reason) const;

  std::shared_ptr<const File> file_;
  Description description_;
  std::optional<Layout> layout_;
  std::vector<std::uint64_t> part_offsets_;  // in the file
  std::vector<Digest128> digests_;
  Digest128 root_;
  std::optional<ChunkTable> chunks_;
  std::vector<std::uint64_t> chunk_offsets_;  // in the file
  std::unique_ptr<ChunkCache> cache_;
};

/// The members as the files of a directory whose path is the container's.
FolderPtr folder_of(std::shared_ptr<const Package> package);

}  // namespace regauge::container
