#include "tests/support/command.h"

#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"

namespace regauge::testing {
namespace {

std::string text_file(const std::filesystem::path& path) {
  const auto bytes = read_whole_file(path);
  return std::string(text_of(bytes));
}

void redirect(int target, const std::string& path) {
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (fd < 0 || dup2(fd, target) < 0) _exit(126);
}

void set_limit(__rlimit_resource resource, std::optional<std::uint64_t> bytes) {
  if (!bytes) return;
  const rlimit limit{*bytes, *bytes};
  if (setrlimit(resource, &limit) != 0) _exit(126);
}

}  // namespace

RunningCommand::RunningCommand(const std::vector<std::string>& arguments, const CommandLimits& limits) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const std::string out = scratch_ / "out";
  const std::string err = scratch_ / "err";
  // Here already when the child is killed before it gets so far.
  write_whole_file(out, {});
  write_whole_file(err, {});
  child_ = fork();
  if (child_ < 0) throw std::runtime_error("cannot fork");
  if (child_ == 0) {
    redirect(STDOUT_FILENO, out);
    redirect(STDERR_FILENO, err);
    set_limit(RLIMIT_DATA, limits.data_bytes);
    set_limit(RLIMIT_FSIZE, limits.file_bytes);
    execvp(argv.front(), argv.data());
    _exit(127);
  }
}

RunningCommand::~RunningCommand() {
  if (ended_) return;
  kill(child_, SIGKILL);
  waitpid(child_, &status_, 0);
}

void RunningCommand::send(int signal) const {
  if (!ended_) kill(child_, signal);
}

CommandResult RunningCommand::wait() {
  if (!ended_ && waitpid(child_, &status_, 0) != child_) throw std::runtime_error("cannot wait");
  ended_ = true;
  return {WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_), text_file(scratch_ / "out"),
          text_file(scratch_ / "err")};
}

bool RunningCommand::ends_within(std::chrono::microseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  while (!ended_) {
    ended_ = waitpid(child_, &status_, WNOHANG) == child_;
    if (ended_ || std::chrono::steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return ended_;
}

CommandResult run_command(const std::vector<std::string>& arguments, const CommandLimits& limits) {
  return RunningCommand(arguments, limits).wait();
}

}  // namespace regauge::testing
