#include "cli/progress_line.h"

#include <cstdio>

#include <fmt/format.h>

#include "cli/terminal.h"
#include "convert/render.h"

namespace regauge::cli {

ProgressLine::~ProgressLine() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

void ProgressLine::show(const Progress& progress) {
  const auto now = Clock::now();
  if (!shown_ || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  // The last column stays free: a terminal goes on to the next line when it is used.
  fmt::print(stderr, "\r\x1b[K{}", render_progress(progress, seconds, stderr_width() - 1));
  std::fflush(stderr);
}

}  // namespace regauge::cli
