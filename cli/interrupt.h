#pragma once

#include <atomic>

namespace regauge::cli {

/// Makes the first Ctrl-C or SIGTERM ask for an orderly end: the flag becomes true. The second one ends the program.
/// A file that may not grow further is an error of its writer from then on.
const std::atomic<bool>& catch_interrupts();

}  // namespace regauge::cli
