#pragma once

#include <string>
#include <string_view>

namespace regauge::inspect {

/// `text` for the inside of an element or of a quoted attribute: printable, markup escaped, cut short when a hostile name is
/// thousands of bytes long.
std::string html_text(std::string_view text);

/// A whole document that needs nothing but itself: style for light and dark, and the script that sorts every table of class
/// "sortable" by the column whose heading is pressed, by `data-v` where a cell has it. `body` is markup.
std::string html_page(std::string_view title, std::string_view body);

}  // namespace regauge::inspect
