#include "cli/common_options.h"

namespace regauge::cli {

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "Workers (default: one for each core)")->check(CLI::Range(1, 1024));
}

void add_json(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print one JSON document, docs/json.md");
}

void add_answer_options(CLI::App& command, int& threads, bool& json, bool& quiet) {
  add_threads(command, threads);
  add_json(command, json);
  command.add_flag("-q,--quiet", quiet, "Print nothing: the exit status is the answer");
}

}  // namespace regauge::cli
