#include "inspect/wording.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.h"

namespace regauge::inspect {

std::string cell(std::string_view text) { return printable(excerpt(text)); }

std::size_t display_width(std::string_view text) {
  // Every byte but the continuation bytes 10xxxxxx starts a code point.
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string wrap(std::string_view text, std::size_t width, std::string_view indent) {
  std::string out;
  std::size_t column = 0;
  bool words_on_line = false;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t blank = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, blank - begin);
    const std::size_t length = display_width(word);
    if (words_on_line && column + 1 + length > width) {
      out += "\n" + std::string(indent);
      column = display_width(indent);
      words_on_line = false;
    } else if (begin > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += length;
    words_on_line = words_on_line || length > 0;
    begin = blank + 1;
  }
  return out;
}

std::string both_units(std::uint64_t bytes) {
  constexpr std::uint64_t kGib = std::uint64_t{1} << 30;
  if (bytes < kGib) return format_bytes(bytes);
  const std::uint64_t hundredths = bytes / kGib * 100 + (bytes % kGib * 100 + kGib / 2) / kGib;
  return fmt::format("{} ({}.{:02} GiB)", format_bytes(bytes), hundredths / 100, hundredths % 100);
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", format_count(count), noun, count == 1 ? "" : "s");
}

}  // namespace regauge::inspect
