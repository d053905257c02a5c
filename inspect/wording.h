#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace regauge::inspect {

/// `text` for a cell of a table: printable, and cut short when a hostile name is thousands of bytes long.
std::string cell(std::string_view text);

/// Columns of a terminal that printable text takes, counted as code points.
std::size_t display_width(std::string_view text);

/// `text` broken at blanks so that no line is wider than `width` where words allow it; lines after the first begin with `indent`.
std::string wrap(std::string_view text, std::size_t width, std::string_view indent);

/// "21.15 GB (19.70 GiB)"; below a gibibyte only "1.80 MB".
std::string both_units(std::uint64_t bytes);

/// "1 file", "3 files", "2,400 arrays".
std::string counted(std::uint64_t count, std::string_view noun);

}  // namespace regauge::inspect
