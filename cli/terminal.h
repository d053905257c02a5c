#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

namespace regauge::cli {

/// Whoever read our output has had enough (`regauge inspect ... | head`): a quiet success, not an error.
class ClosedPipe : public std::exception {
 public:
  const char* what() const noexcept override { return "standard output was closed"; }
};

/// Writes all of `text` to standard output. Throws ClosedPipe, or Error{io} when the system refuses (a full disk).
void print(std::string_view text);

/// Writes "regauge: <message>" and a line feed to standard error, as far as that works.
void complain(std::string_view message) noexcept;

/// Makes a closed pipe an error of write() instead of the end of the process. Once, before anything is printed.
void ignore_closed_pipes() noexcept;

bool stdout_is_terminal() noexcept;
bool stderr_is_terminal() noexcept;

/// Standard output is a terminal that shows colours, and NO_COLOR (https://no-color.org) is not set.
bool may_colour() noexcept;

/// Columns of the terminal on standard output; 100 when it is none, so that files look the same everywhere.
std::size_t output_width() noexcept;

/// Columns of the terminal on standard error; 80 when it is none or does not say.
std::size_t stderr_width() noexcept;

/// One line on standard error that says how far a long run has come. Shows nothing unless standard error is a terminal and
/// `shown` is set; the line is wiped when the object goes.
class PercentLine {
 public:
  explicit PercentLine(std::string_view what, bool shown = true);
  ~PercentLine();
  PercentLine(const PercentLine&) = delete;
  PercentLine& operator=(const PercentLine&) = delete;
  PercentLine(PercentLine&&) = delete;
  PercentLine& operator=(PercentLine&&) = delete;

  /// Writes only when the whole per cent has changed.
  void update(std::uint64_t done, std::uint64_t total) noexcept;

 private:
  std::string what_;
  bool shown_;
  int percent_ = -1;
};

}  // namespace regauge::cli
