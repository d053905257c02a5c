#include <atomic>
#include <memory>
#include <string>

#include "cli/app.h"
#include "cli/common_options.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "verify/doctor.h"
#include "verify/render_doctor.h"

namespace regauge::cli {
namespace {

struct DoctorArguments {
  std::string path;
  int threads = 0;
  bool json = false;
  bool quiet = false;
};

int run_doctor(const DoctorArguments& arguments) {
  const std::atomic<bool>& interrupted = catch_interrupts();
  Diagnosis diagnosis;
  {
    PercentLine line("decoding " + arguments.path, !arguments.quiet && !arguments.json);
    diagnosis = diagnose(arguments.path,
                         {.threads = arguments.threads,
                          .progress = [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); },
                          .cancel = &interrupted});
  }
  if (arguments.json) {
    print(diagnosis_to_json(diagnosis).dump(2) + "\n");
  } else if (!arguments.quiet) {
    print(render_diagnosis(diagnosis));
  }
  return diagnosis.healthy() ? kExitYes : kExitNo;
}

}  // namespace

void add_doctor(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<DoctorArguments>();
  CLI::App* command =
      app.add_subcommand("doctor", "Find known faults, what they break, and the command that mends them");
  command->add_option("PATH", arguments->path, "Checkpoint: a directory or a file")->required();
  add_answer_options(*command, arguments->threads, arguments->json, arguments->quiet);
  command->footer(
      "Exit status: 0 healthy, 1 something is wrong, 2 PATH is no checkpoint at all.\n"
      "Examples:\n"
      "  regauge doctor samples/qwen35-bf16-tiny\n"
      "  regauge doctor samples/qwen35-tiny-mtp.gguf --json");
  command->callback([&chosen, arguments] { chosen = [arguments] { return run_doctor(*arguments); }; });
}

}  // namespace regauge::cli
