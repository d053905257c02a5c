#include "formats/container/layout.h"

#include <tuple>

#include <fmt/format.h>

namespace regauge::container {
namespace {

/// Where the run of each index begins in `extents`, which are ordered by it; one more entry for the end.
std::vector<std::size_t> begins(const std::vector<Extent>& extents, std::size_t Extent::* index, std::size_t count) {
  std::vector<std::size_t> begin(count + 1);
  for (const Extent& extent : extents) ++begin[extent.*index + 1];
  for (std::size_t i = 0; i < count; ++i) begin[i + 1] += begin[i];
  return begin;
}

std::span<const Extent> run(const std::vector<Extent>& extents, const std::vector<std::size_t>& begin,
                            std::size_t index) {
  return std::span(extents).subspan(begin.at(index), begin.at(index + 1) - begin[index]);
}

}  // namespace

Layout::Layout(const Description& description) {
  const std::size_t files = description.files.size();
  const std::size_t sidecars = description.sidecars.size();
  parts_.reserve(files + sidecars + description.arrays.size());
  // What a reader needs first comes first: headers and configuration, then the data.
  for (std::size_t i = 0; i < files; ++i) parts_.push_back({PartKind::skeleton, i, fmt::format("f{}.skeleton", i), 0});
  for (std::size_t i = 0; i < sidecars; ++i) {
    parts_.push_back({PartKind::sidecar, i, fmt::format("s{}", i), description.sidecars[i].bytes});
  }
  std::size_t array = 0;
  for (std::size_t i = 0; i < files; ++i) add_file(description, i, array);
  for (std::size_t i = 0; i < sidecars; ++i) {
    const std::uint64_t bytes = description.sidecars[i].bytes;
    if (bytes > 0) by_member_.push_back({files + i, 0, files + i, 0, bytes});
  }
  member_begin_ = begins(by_member_, &Extent::member, files + sidecars);
  by_part_ = by_member_;
  std::ranges::sort(by_part_, {}, [](const Extent& extent) { return std::tuple(extent.part, extent.part_offset); });
  part_begin_ = begins(by_part_, &Extent::part, parts_.size());
}

void Layout::add_file(const Description& description, std::size_t file, std::size_t& array) {
  const std::uint64_t size = description.files[file].bytes;
  std::uint64_t at = 0;
  const auto fill_up_to = [&](std::uint64_t end) {
    if (end == at) return;
    by_member_.push_back({file, at, file, parts_[file].bytes, end - at});
    parts_[file].bytes += end - at;
    at = end;
  };
  for (std::size_t number = 0; array < description.arrays.size() && description.arrays[array].file == file; ++number) {
    const Array& one = description.arrays[array];
    parts_.push_back({PartKind::array, array++, fmt::format("f{}.a{}", file, number), one.bytes});
    if (one.bytes == 0) continue;
    fill_up_to(one.offset);
    by_member_.push_back({file, one.offset, parts_.size() - 1, 0, one.bytes});
    at = one.offset + one.bytes;
  }
  fill_up_to(size);
}

std::span<const Extent> Layout::of_member(std::size_t member) const { return run(by_member_, member_begin_, member); }

std::span<const Extent> Layout::of_part(std::size_t part) const { return run(by_part_, part_begin_, part); }

}  // namespace regauge::container
