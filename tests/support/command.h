#pragma once

#include <string>
#include <vector>

namespace regauge::testing {

struct CommandResult {
  int exit_code = -1;  ///< 128 + signal when it was killed
  std::string out;
  std::string err;
};

/// Runs a program with these arguments, no shell in between, and waits for it.
CommandResult run_command(const std::vector<std::string>& arguments);

}  // namespace regauge::testing
