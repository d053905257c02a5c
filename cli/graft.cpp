#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/common_options.h"
#include "cli/convert_arguments.h"
#include "cli/interrupt.h"
#include "cli/opened_model.h"
#include "cli/progress_line.h"
#include "cli/terminal.h"
#include "convert/execute.h"
#include "convert/graft.h"
#include "convert/render.h"

namespace regauge::cli {
namespace {

struct GraftArguments {
  std::string base;
  std::string mtp;
  std::string vision;
  bool link = false;
  bool replace = false;
  ConvertArguments convert;  ///< what graft shares with convert
};

/// The base, with the factors that are to join it.
OpenedModel open_base(const GraftArguments& arguments) {
  // What the base has stays what it is.
  constexpr auto kAttach = OpenedModel::Adapters::attach;
  constexpr auto kAnnounced = OpenedModel::Norms::as_announced;
  OpenedModel base(std::vector<std::string>{arguments.base}, {}, kAttach, kAnnounced);
  if (arguments.convert.adapter.empty()) return base;
  if (base.has_factors()) {
    throw Error(ErrorCode::invalid, "has low-rank factors of its own; `regauge convert --drop eora` takes them out")
        .at(arguments.base);
  }
  OpenOptions options;
  options.adapter = arguments.convert.adapter;
  return OpenedModel(std::vector<std::string>{arguments.base}, options, kAttach, kAnnounced);
}

bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

/// What is read must not be replaced meanwhile.
void refuse_overwriting(const Checkpoint& source, const std::filesystem::path& target) {
  const bool file =
      std::ranges::any_of(source.files, [&](const SourceFile& one) { return same_file(target, one.file->path()); });
  if (file || same_file(target, source.path))
    throw Error(ErrorCode::invalid, "the target is a source, or a file of one").at(target.string());
}

int run_graft(GraftArguments arguments) {
  arguments.convert.to = "gptq";  // asked for by name only: the plan goes by the base
  ConvertOptions options = options_of(arguments.convert);
  options.link_kept = arguments.link;
  options.journal = false;  // a later run must not go on writing in what is linked
  const std::atomic<bool>& interrupted = catch_interrupts();
  const OpenedModel base = open_base(arguments);
  GraftRequest request{base.paths().front(), {}, {}, !arguments.convert.adapter.empty(), arguments.replace};
  std::optional<OpenedModel> mtp;
  std::optional<OpenedModel> vision;
  if (!arguments.mtp.empty()) request.mtp = mtp.emplace(std::vector<std::string>{arguments.mtp}).paths().front();
  if (!arguments.vision.empty())
    request.vision = vision.emplace(std::vector<std::string>{arguments.vision}).paths().front();
  const std::string& target = arguments.convert.target;
  const Plan plan = plan_graft(request, target, options);
  for (const PlannedOutput& output : plan.outputs) {
    for (const Checkpoint* source : plan.sources) refuse_overwriting(*source, output.path);
  }
  const bool quiet = arguments.convert.quiet;
  const bool json = arguments.convert.json;
  const auto as_json = [&](const Report* report) {
    Json out = convert_to_json(base.first(), plan, report);
    out["schema"] = "regauge.graft/1";
    return out.dump(2) + "\n";
  };
  if (!quiet && !json)
    fmt::print(stderr, "{}{}", render_findings(base.first().findings), render_findings(plan.findings));
  if (arguments.convert.dry_run) {
    print(json ? as_json(nullptr) : render_plan(base.first(), plan));
    return kExitYes;
  }
  ProgressLine line(stderr_is_terminal() && !quiet && !json);
  const Report report =
      execute(plan, base.first(), options, [&](const Progress& progress) { line.show(progress); }, &interrupted);
  if (json) {
    print(as_json(&report));
  } else if (!quiet) {
    print(render_report(base.first(), plan, report));
  }
  return kExitYes;
}

}  // namespace

void add_graft(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<GraftArguments>();
  ConvertArguments& shared = arguments->convert;
  CLI::App* command = app.add_subcommand(
      "graft", "Give a checkpoint parts of others: an MTP layer, a vision tower, EoRA factors, in its own format");
  command->add_option("BASE", arguments->base, "Checkpoint: a directory, a GGUF file, or a container of either")
      ->required();
  command->add_option("OUT", shared.target, "What is written: a directory, or a .gguf and what lies beside it")
      ->required();
  command->add_option("--mtp", arguments->mtp, "Take the MTP layer of this checkpoint")->type_name("DONOR");
  command->add_option("--vision", arguments->vision, "Take the vision tower of this checkpoint or mmproj file")
      ->type_name("DONOR");
  command->add_option("--eora", shared.adapter, "Take the low-rank factors of this PEFT or MLX directory or LoRA file")
      ->type_name("DONOR");
  const CLI::IsMember dtypes({"f32", "f16", "bf16"});
  command->add_option("--dtype", shared.dtype, "Type of tensors that are dense in the donor (default: as they are)")
      ->check(dtypes);
  command->add_option("--dense", shared.dense, "Decode the donors' quantized tensors into this type")->check(dtypes);
  command
      ->add_option(
          "--allow", shared.allow,
          "Permit what is off by default: dense (F32 where no encoding is exact), rounded (codes kept, scales or "
          "offsets rounded)")
      ->check(CLI::IsMember({"dense", "rounded"}))
      ->delimiter(',');
  command
      ->add_option("--require", shared.require,
                   "Refuse unless every tensor arrives at least so well (default: no gate)")
      ->check(CLI::IsMember({"bytes", "values", "rounded"}));
  command->add_option("--recipe", shared.recipe,
                      "What the parts become: a preset or a JSON file, docs/recipes.md (default: exact)");
  command
      ->add_option("--tensor-type", shared.tensor_types, "PATTERN=TYPE or @COMPONENT=TYPE, before the recipe's rules")
      ->allow_extra_args(false);
  command->add_flag("--replace", arguments->replace, "Take BASE's own MTP layer or vision tower out where it has one");
  command->add_option("--split-max-size", shared.shard_size,
                      "Most data bytes in one file where all are written anew: 4GiB, 500M (default: one file)");
  command->add_flag("--link", arguments->link, "Hard links in place of copies of BASE's files, where there are any");
  add_threads(*command, shared.threads);
  command->add_option("--max-memory", shared.max_memory,
                      "Most memory to hold, such as 256MiB or 2GB (default: at most 80 MiB a thread)");
  command->add_flag("--verify", shared.verify, "Read everything new back and hold it against the donors");
  command->add_flag("--dry-run", shared.dry_run, "Print the plan and write nothing");
  add_json(*command, shared.json);
  command->add_flag("--force", shared.force, "Replace OUT");
  command->add_flag("-q,--quiet", shared.quiet, "Print nothing but errors");
  command->footer(
      "Examples:\n"
      "  regauge graft without-mtp whole --mtp samples/qwen35-tiny-mtp.gguf\n"
      "  regauge graft model.gguf seeing.gguf --vision mmproj-model.gguf");
  command->callback([&chosen, arguments] { chosen = [arguments] { return run_graft(*arguments); }; });
}

}  // namespace regauge::cli
