#include "cli/terminal.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"

namespace regauge::cli {
namespace {

/// 0, or the errno of the write that failed.
int write_all(int descriptor, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

void print(std::string_view text) {
  const int failure = write_all(STDOUT_FILENO, text);
  if (failure == EPIPE) throw ClosedPipe();
  if (failure != 0) {
    throw Error(ErrorCode::io, "cannot write: {}", std::generic_category().message(failure)).at("standard output");
  }
}

void complain(std::string_view message) noexcept {
  // One write, so that lines of several programs do not mix.
  std::string line = "regauge: ";
  line += message;
  line += '\n';
  write_all(STDERR_FILENO, line);
}

void ignore_closed_pipes() noexcept {
  // It fails only for signals that do not exist.
  static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
}

bool stdout_is_terminal() noexcept { return ::isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() noexcept { return ::isatty(STDERR_FILENO) == 1; }

bool may_colour() noexcept {
  const char* no_color = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): nobody sets variables here
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): as above
  if (term == nullptr || std::strcmp(term, "dumb") == 0) return false;
  return stdout_is_terminal();
}

std::size_t output_width() noexcept {
  constexpr std::size_t kWithoutTerminal = 100;
  constexpr std::size_t kNarrowest = 60;  // below this the tables break anyway
  winsize size{};
  if (!stdout_is_terminal() || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return kWithoutTerminal;
  return size.ws_col < kNarrowest ? kNarrowest : size.ws_col;
}

std::size_t stderr_width() noexcept {
  constexpr std::size_t kWithoutTerminal = 80;
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kWithoutTerminal;
  return size.ws_col;
}

PercentLine::PercentLine(std::string_view what, bool shown) : what_(what), shown_(shown && stderr_is_terminal()) {}

PercentLine::~PercentLine() {
  if (shown_ && percent_ >= 0) write_all(STDERR_FILENO, "\r\x1b[K");
}

void PercentLine::update(std::uint64_t done, std::uint64_t total) noexcept {
  if (!shown_ || total == 0) return;
  const int percent = static_cast<int>(static_cast<double>(done) * 100 / static_cast<double>(total));
  if (percent == percent_) return;
  percent_ = percent;
  write_all(STDERR_FILENO, fmt::format("\r{} {}%", what_, percent));
}

}  // namespace regauge::cli
