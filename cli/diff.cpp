#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/text.h"
#include "cli/app.h"
#include "cli/common_options.h"
#include "cli/interrupt.h"
#include "cli/opened_model.h"
#include "cli/terminal.h"
#include "verify/diff.h"
#include "verify/render_diff.h"

namespace regauge::cli {
namespace {

struct DiffArguments {
  std::string first;
  std::string second;
  std::vector<std::string> with_first;
  std::vector<std::string> with_second;
  std::string only;
  int threads = 0;
  bool all = false;
  bool json = false;
  bool quiet = false;
};

OpenedModel open_model(const std::string& path, const std::vector<std::string>& with) {
  std::vector<std::string> paths{path};
  paths.insert(paths.end(), with.begin(), with.end());
  return OpenedModel(paths);
}

int run_diff(const DiffArguments& arguments) {
  const std::atomic<bool>& interrupted = catch_interrupts();
  OpenedModel first = open_model(arguments.first, arguments.with_first);
  OpenedModel second = open_model(arguments.second, arguments.with_second);
  const bool quiet = arguments.quiet || arguments.json;
  const auto telling = quiet ? OpenedModel::Telling::quiet : OpenedModel::Telling::note;
  first.take_parts_like(second, telling);
  second.take_parts_like(first, telling);
  Diff result;
  {
    PercentLine line("comparing", !quiet);
    result = diff(
        first.paths(), second.paths(),
        {.only = arguments.only, .keys = true, .decode_all = false, .threads = arguments.threads},
        [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); }, &interrupted);
  }
  if (arguments.json) {
    print(diff_to_json(result, arguments.first, arguments.second).dump(2) + "\n");
  } else if (!arguments.quiet) {
    print(render_diff(result, arguments.all ? DiffDetail::all : DiffDetail::worst));
  }
  const bool nothing = !arguments.only.empty() && result.tensors.empty() && result.only_first.empty() &&
                       result.only_second.empty() && result.reshaped.empty() && result.renamed.empty();
  if (nothing) complain(fmt::format("no tensor matches '{}'", printable(arguments.only)));
  return result.equal() && !nothing ? kExitYes : kExitNo;
}

}  // namespace

void add_diff(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<DiffArguments>();
  CLI::App* command = app.add_subcommand("diff", "How two checkpoints of any formats differ; exit 0 when they do not");
  command->add_option("A", arguments->first, "Checkpoint: a directory or a file")->required();
  command->add_option("B", arguments->second, "The other one")->required();
  command->add_option(
      "--with-a", arguments->with_first,
      "What goes with A, such as an adapter (default: mmproj-NAME.gguf and NAME-LoRA.gguf beside a GGUF)");
  command->add_option("--with-b", arguments->with_second, "The same of B");
  command
      ->add_option("--only", arguments->only,
                   "Tensors only, of these Hugging Face names: a part, or a glob with * and ?")
      ->type_name("PATTERN");
  command->add_flag("--all", arguments->all, "Show everything, not the ten worst of each");
  add_answer_options(*command, arguments->threads, arguments->json, arguments->quiet);
  command->footer(
      "Examples:\n"
      "  regauge diff samples/qwen35-bf16-tiny samples/qwen35-tiny-mtp.gguf --only mtp.\n"
      "  regauge diff samples/qwen35-gptq-int4 samples/qwen35-gptq-int4 --json");
  command->callback([&chosen, arguments] { chosen = [arguments] { return run_diff(*arguments); }; });
}

}  // namespace regauge::cli
