#include <fmt/format.h>

#include "formats/format.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

/// The number behind "size " in a Git LFS pointer. Source: git-lfs/git-lfs docs/spec.md.
std::optional<std::string> size_in_pointer(std::string_view text) {
  const auto at = text.find("\nsize ");
  if (at == std::string_view::npos) return std::nullopt;
  const auto begin = at + std::string_view("\nsize ").size();
  const std::string_view digits = text.substr(begin, text.find_first_not_of("0123456789", begin) - begin);
  return digits.empty() ? std::nullopt : std::optional(std::string(digits));
}

}  // namespace

std::optional<Instead> what_instead(std::span<const std::byte> head, std::uint64_t size) {
  const std::string_view text{reinterpret_cast<const char*>(head.data()), head.size()};
  if (head.empty()) return Instead{"file-empty", "0 bytes"};
  if (text.starts_with("version https://git-lfs") || text.starts_with("version https://hawser")) {
    const auto stands_for = size_in_pointer(text);
    return Instead{"lfs-pointer", fmt::format("{} bytes: a Git LFS pointer in place of a file of {} bytes", size,
                                              stands_for.value_or("unknown many"))};
  }
  const auto foreign = describe_foreign(head);
  if (!foreign) return std::nullopt;
  return Instead{foreign->find("HTML") != std::string::npos ? "html-page" : "file-foreign",
                 fmt::format("{} bytes: {}", size, *foreign)};
}

}  // namespace regauge::doctor
