#include "base/text.h"

#include <array>
#include <cstddef>
#include <optional>

#include <fmt/format.h>

namespace regauge {
namespace {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;
};

/// The code point at the start of a non-empty `text`, or nothing when it does not start with well-formed UTF-8.
std::optional<CodePoint> decode_code_point(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return CodePoint{lead, 1};
  // Below C2 come continuation bytes and the overlong two-byte forms, above F4 what would pass U+10FFFF.
  if (lead < 0xC2 || lead > 0xF4) return std::nullopt;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < length) return std::nullopt;
  char32_t value = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) return std::nullopt;
    value = (value << 6) | (byte(i) & 0x3FU);
  }
  const char32_t smallest = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return std::nullopt;
  return CodePoint{value, length};
}

/// C0 and C1 controls act on a terminal; the others are the invisible and bidirectional format characters that make one
/// text look like another (Unicode Technical Report 36, sections 2.5 and 3.6).
bool is_unsafe(char32_t c) noexcept {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0xAD || c == 0x061C || (c >= 0x200B && c <= 0x200F) ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) ||
         (c >= 0xE0000 && c <= 0xE007F);
}

}  // namespace

bool is_utf8(std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const auto next = decode_code_point(bytes);
    if (!next) return false;
    bytes.remove_prefix(next->bytes);
  }
  return true;
}

std::string printable(std::string_view text, LineFeeds line_feeds) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto next = decode_code_point(text);
    const std::size_t length = next ? next->bytes : 1;
    if (!next || (next->value < 0x80 && is_unsafe(next->value))) {
      const char c = text.front();
      if (c == '\n' && line_feeds == LineFeeds::keep) {
        out += c;
      } else if (c == '\n') {
        out += "\\n";
      } else if (c == '\r') {
        out += "\\r";
      } else if (c == '\t') {
        out += "\\t";
      } else {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
    } else if (is_unsafe(next->value)) {
      out += fmt::format("\\u{{{:x}}}", static_cast<std::uint32_t>(next->value));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string excerpt(std::string_view text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  return std::string(text.substr(0, max_bytes)) + "...";
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  constexpr std::array<const char*, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  std::uint64_t hundredth = 10;
  for (std::size_t i = 0;; ++i, hundredth *= 1000) {
    const std::uint64_t hundredths = bytes / hundredth + (bytes % hundredth >= hundredth / 2 ? 1 : 0);
    // 999,999 bytes round to 1000.00 kB, which people call 1.00 MB.
    if (hundredths < 100'000 || i + 1 == kUnits.size()) {
      return fmt::format("{}.{:02} {}", hundredths / 100, hundredths % 100, kUnits.at(i));
    }
  }
}

std::string format_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t left = digits.size(); left > 3;) {
    left -= 3;
    digits.insert(left, 1, ',');
  }
  return digits;
}

}  // namespace regauge
