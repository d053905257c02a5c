#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace regauge {

/// True when `bytes` is well-formed UTF-8 (Unicode 15, table 3-7): no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(std::string_view bytes) noexcept;

/// What printable() does with line feeds.
enum class LineFeeds : std::uint8_t { escape, keep };

/// `text` made safe for messages and terminals: control characters, invisible and direction-changing code points and bytes
/// that are not UTF-8 become \n, \t, \x1b or \u{202e}, so that a hostile name can neither move the cursor nor forge a line.
/// Backslashes stay as they are, which makes it idempotent but not reversible: machine-readable output must not use it.
std::string printable(std::string_view text, LineFeeds line_feeds = LineFeeds::escape);

/// `text`, or its beginning and "..." when it has more than `max_bytes`: names from a file may have a hundred megabytes.
std::string excerpt(std::string_view text, std::size_t max_bytes = 200);

/// A size for people, in decimal units: "17.42 GB", exact below 1 kB ("999 B"). Rounded half up, the same in every locale.
std::string format_bytes(std::uint64_t bytes);

/// A count with thousands marked: "27,781,427,952".
std::string format_count(std::uint64_t count);

}  // namespace regauge
