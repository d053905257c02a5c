#pragma once

#include <span>
#include <string>
#include <string_view>

namespace regauge {

/// One word of a shell's command line, in quotes where it needs them; control characters as $'\x1b', so that a name cannot
/// play with the terminal it is shown on.
std::string shell_word(std::string_view word);

/// Words joined by blanks, each as shell_word() gives it.
std::string shell_line(std::span<const std::string> words);

}  // namespace regauge
