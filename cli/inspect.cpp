#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/terminal.h"
#include "formats/format.h"
#include "inspect/map.h"
#include "inspect/render_json.h"
#include "inspect/render_text.h"
#include "inspect/report.h"
#include "inspect/stats.h"

namespace regauge::cli {
namespace {

struct InspectOptions {
  std::string path;
  std::optional<std::string> pattern;  ///< set with --tensors; empty for all
  std::string stats;
  bool map = false;
  bool scan = false;
  bool json = false;
  std::string zeros = "auto";
  OpenOptions open;

  bool shows_summary() const { return scan || (!pattern && !map && stats.empty()); }
};

/// `--tensors PATH` reads the path as the pattern. Where that is what must have happened, take it as it was meant.
void settle_path(InspectOptions& options) {
  if (!options.path.empty()) return;
  if (options.pattern && std::filesystem::exists(*options.pattern)) {
    options.path = std::move(*options.pattern);
    options.pattern = "";
    return;
  }
  throw Error(ErrorCode::invalid, "inspect needs a PATH; try 'regauge inspect --help'");
}

int inspect_path(InspectOptions options) {
  settle_path(options);
  if (options.zeros != "auto") options.open.zeros = options.zeros == "v1" ? ZerosLabel::v1 : ZerosLabel::v2;
  const Checkpoint checkpoint = open_checkpoint(options.path, options.open);
  inspect::Report report;
  {
    PercentLine progress("scanning", !options.json);
    report = inspect::examine(checkpoint, options.scan ? inspect::Depth::data : inspect::Depth::headers,
                              [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); });
  }
  std::optional<inspect::PrecisionMap> map;
  if (options.map) map = inspect::make_map(checkpoint, report.catalog, report.architecture.get());
  std::optional<inspect::TensorStats> stats;
  if (!options.stats.empty()) stats = inspect::measure(checkpoint, inspect::find_tensor(checkpoint, options.stats));

  const std::string pattern = options.pattern.value_or("");
  const int found = inspect::count_matches(checkpoint, pattern) > 0 || pattern.empty() ? kExitYes : kExitNo;
  if (options.json) {
    print(inspect::render_json(checkpoint, report,
                               {.pattern = pattern, .map = map ? &*map : nullptr, .stats = stats ? &*stats : nullptr}));
    return found;
  }
  const inspect::TextStyle style{output_width(), may_colour() ? inspect::Colour::ansi : inspect::Colour::none};
  std::string text;
  const auto add = [&text](const std::string& section) { text += (text.empty() ? "" : "\n") + section; };
  if (options.shows_summary()) add(inspect::render_summary(report, style));
  if (map) add(inspect::render_map(*map, style));
  if (stats) add(inspect::render_stats(checkpoint, *stats));
  if (options.pattern && found == kExitYes) add(inspect::render_tensors(checkpoint, report, pattern));
  print(text);
  if (found == kExitNo) complain(fmt::format("no tensor matches '{}'", printable(pattern)));
  return found;
}

}  // namespace

void add_inspect(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("inspect", "What is in a checkpoint: components, precision, sizes, findings");
  const auto options = std::make_shared<InspectOptions>();
  command->add_option("PATH", options->path, "A checkpoint directory, or a safetensors or GGUF file");
  command
      ->add_option_function<std::string>(
          "--tensors", [options](const std::string& text) { options->pattern = text; },
          "List tensors with shape, encoding, bytes and arrays; PATTERN is a part of the name, or a glob with * and ?")
      ->expected(0, 1)
      ->type_name("[PATTERN]");
  command->add_flag("--map", options->map, "Draw blocks against kinds of weight, by bits");
  command->add_option("--stats", options->stats, "Measure one tensor: range, mean, zeros, histograms; reads its data")
      ->type_name("TENSOR");
  command->add_flag("--scan", options->scan, "Read all data, so that findings rest on it and not on the configuration");
  command->add_flag("--json", options->json, "Everything as one JSON document (docs/json.md)");
  command->add_option("--adapter", options->open.adapter, "Attach the low-rank factors (EoRA) in this directory")
      ->type_name("DIR");
  command
      ->add_option("--zeros", options->zeros,
                   "How GPTQ zero points are stored: auto (by the data), v1 or v2; default auto")
      ->check(CLI::IsMember({"auto", "v1", "v2"}).description(""))
      ->type_name("HOW");
  command->footer(
      "Examples:\n"
      "  regauge inspect samples/qwen35-gptq-int4\n"
      "  regauge inspect samples/qwen35-gptq-int4 --tensors 'model.*.mlp.*'");
  command->callback([&chosen, options] { chosen = [options] { return inspect_path(*options); }; });
}

}  // namespace regauge::cli
