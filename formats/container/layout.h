#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/container/description.h"

namespace regauge::container {

/// What a tensor of the container holds: of a file whatever is not in its arrays, one array, or a whole sidecar.
enum class PartKind : std::uint8_t { skeleton, sidecar, array };

struct Part {
  PartKind kind = PartKind::array;
  std::size_t index = 0;  ///< of the file, the sidecar or the array
  std::string tensor;     ///< its name in the container: "f0.skeleton", "s3", "f0.a17"
  std::uint64_t bytes = 0;
};

/// A run of bytes that lies in a member and in a part; never empty.
struct Extent {
  std::size_t member = 0;
  std::uint64_t member_offset = 0;
  std::size_t part = 0;
  std::uint64_t part_offset = 0;
  std::uint64_t bytes = 0;
};

/// Which bytes of the original files are in which parts. Members are the files, then the sidecars; parts are in the order
/// of the container's tensors. Arrays take their places, and what is between them is the file's skeleton, so that parts
/// always tile members whatever a description says.
class Layout {
 public:
  /// The description must have passed read_description or come from a checkpoint.
  explicit Layout(const Description& description);

  const std::vector<Part>& parts() const noexcept { return parts_; }
  std::size_t members() const noexcept { return member_begin_.size() - 1; }
  /// The extents of a member, from its first byte to its last without a gap.
  std::span<const Extent> of_member(std::size_t member) const;
  /// The extents of a part, likewise.
  std::span<const Extent> of_part(std::size_t part) const;

 private:
  void add_file(const Description& description, std::size_t file, std::size_t& array);

  std::vector<Part> parts_;
  std::vector<Extent> by_member_;
  std::vector<std::size_t> member_begin_;
  std::vector<Extent> by_part_;
  std::vector<std::size_t> part_begin_;
};

/// Calls visit(extent, bytes to skip in it, piece of `out`) for whatever [offset, offset + out.size()) covers; `place` is
/// the offset of Extent by which `extents` tile the range.
template <typename Visit>
void visit_range(std::span<const Extent> extents, std::uint64_t Extent::* place, std::uint64_t offset,
                 std::span<std::byte> out, Visit visit) {
  if (out.empty()) return;
  auto extent = std::ranges::upper_bound(extents, offset, {}, place) - 1;
  for (; !out.empty(); ++extent) {
    const std::uint64_t skip = offset - (*extent).*place;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), extent->bytes - skip));
    visit(*extent, skip, out.first(count));
    out = out.subspan(count);
    offset += count;
  }
}

}  // namespace regauge::container
