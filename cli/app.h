#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

namespace regauge::cli {

// What the program tells its caller.
inline constexpr int kExitYes = 0;       ///< done, or equal
inline constexpr int kExitNo = 1;        ///< the answer is no: a gate, a difference, a fault, nothing found
inline constexpr int kExitCouldNot = 2;  ///< wrong usage, or an error

/// What the chosen subcommand does once all options are parsed: writes its answer with print() (cli/terminal.h) and returns
/// an exit status. Reports failure as regauge::Error.
using Command = std::function<int()>;

// Each subcommand adds itself to `app`, with a help that ends in two examples, and sets `chosen` in its callback. One line
// in app.cpp makes a new one known.
void add_inspect(CLI::App& app, Command& chosen);
void add_convert(CLI::App& app, Command& chosen);
void add_verify(CLI::App& app, Command& chosen);
void add_diff(CLI::App& app, Command& chosen);
void add_checksum(CLI::App& app, Command& chosen);
void add_graft(CLI::App& app, Command& chosen);
void add_doctor(CLI::App& app, Command& chosen);
void add_formats(CLI::App& app, Command& chosen);

/// Text that follows the message of the failure that is under way: the way out.
void explain_failure(std::string text);

/// The command line that this program was started with, quoted for a shell, `flag` added behind `subcommand`.
std::string command_line_with(std::string_view subcommand, std::string_view flag);

/// The whole program: parses, runs, and turns every outcome into an exit status. Never throws.
int run(int argc, const char* const* argv) noexcept;

}  // namespace regauge::cli
