#pragma once

#include <CLI/CLI.hpp>

namespace regauge::cli {

// Options that several subcommands share, worded once. What they set must outlive parsing.

/// --threads N, from 1 on; unset it keeps what it was.
void add_threads(CLI::App& command, int& threads);
void add_json(CLI::App& command, bool& json);
/// --threads, --json and --quiet of a subcommand whose exit status says what its output says.
void add_answer_options(CLI::App& command, int& threads, bool& json, bool& quiet);

}  // namespace regauge::cli
