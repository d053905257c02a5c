#include "tests/support/command.h"

#include <cstdlib>
#include <stdexcept>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/support/golden.h"

namespace regauge::testing {
namespace {

std::string text_file(const std::filesystem::path& path) {
  const auto bytes = read_whole_file(path);
  return std::string(text_of(bytes));
}

void redirect(int target, const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (fd < 0 || dup2(fd, target) < 0) _exit(126);
}

}  // namespace

CommandResult run_command(const std::vector<std::string>& arguments) {
  const ScratchDir scratch;
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) {
    redirect(STDOUT_FILENO, scratch / "out");
    redirect(STDERR_FILENO, scratch / "err");
    execvp(argv.front(), argv.data());
    _exit(127);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("cannot wait");
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text_file(scratch / "out"),
          text_file(scratch / "err")};
}

}  // namespace regauge::testing
