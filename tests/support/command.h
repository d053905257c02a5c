#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "tests/support/golden.h"

namespace regauge::testing {

struct CommandResult {
  int exit_code = -1;  ///< 128 + signal when it was killed
  std::string out;
  std::string err;
};

/// What the system lets a program have; nothing: as much as the test program itself.
struct CommandLimits {
  std::optional<std::uint64_t> data_bytes;  ///< private writable memory, stacks of threads included (RLIMIT_DATA)
  std::optional<std::uint64_t> file_bytes;  ///< size of a file that it writes (RLIMIT_FSIZE)
};

/// A program that runs while the test goes on. Killed when the object goes before wait().
class RunningCommand {
 public:
  /// Starts a program with these arguments, no shell in between.
  explicit RunningCommand(const std::vector<std::string>& arguments, const CommandLimits& limits = {});
  ~RunningCommand();
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  void send(int signal) const;
  /// Waits for its end.
  CommandResult wait();
  /// False when it still runs after that time.
  bool ends_within(std::chrono::microseconds time);

 private:
  ScratchDir scratch_;
  pid_t child_ = -1;
  bool ended_ = false;
  int status_ = 0;
};

/// Runs a program with these arguments, no shell in between, and waits for it.
CommandResult run_command(const std::vector<std::string>& arguments, const CommandLimits& limits = {});

}  // namespace regauge::testing
