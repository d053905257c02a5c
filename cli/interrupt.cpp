#include "cli/interrupt.h"

#include <csignal>

namespace regauge::cli {
namespace {

std::atomic<bool> interrupted = false;

void note_interrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

const std::atomic<bool>& catch_interrupts() {
  std::signal(SIGINT, note_interrupt);
  std::signal(SIGTERM, note_interrupt);
  // A limit on the size of files is an error of write() and not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  return interrupted;
}

}  // namespace regauge::cli
