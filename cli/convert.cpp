#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <malloc.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/render.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/common_options.h"
#include "cli/convert_arguments.h"
#include "cli/convert_manifest.h"
#include "cli/convert_whole.h"
#include "cli/opened_model.h"
#include "cli/progress_line.h"
#include "cli/terminal.h"
#include "convert/execute.h"
#include "convert/journal.h"
#include "convert/plan.h"
#include "convert/render.h"
#include "convert/render_loss.h"
#include "formats/format.h"
#include "models/architecture.h"

namespace regauge::cli {
namespace {

std::atomic<bool> interrupted = false;

/// The first asks for an orderly end; whoever asks again does not want to wait for it.
void note_interrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

/// A target that is one of the source's own files would be replaced while it is read.
void refuse_overwriting_source(const Checkpoint& source, const Plan& plan) {
  for (const PlannedOutput& output : plan.outputs) {
    for (const SourceFile& file : source.files) {
      if (same_file(output.path, file.file->path())) {
        throw Error(ErrorCode::invalid, "the target is a file of the source").at(output.path.string());
      }
    }
  }
}

/// The files of a GGUF model's parts: named, or beside it.
void take_parts(const ConvertArguments& arguments, const ConvertOptions& options, OpenedModel& model) {
  using Telling = OpenedModel::Telling;
  if (!arguments.mmproj.empty()) model.add(arguments.mmproj);
  if (model.first().dialect != Dialect::gguf || options.format == "gguf") return;
  const auto telling = arguments.quiet ? Telling::quiet : Telling::note;
  if (!model.has_vision() && !options.drop_vision) model.take_beside(OutputKind::mmproj, telling);
  if (!model.has_mtp() && !options.drop_mtp) model.take_beside(OutputKind::mtp, telling);
  if (!model.has_factors() && options.eora != EoraPolicy::drop) model.take_beside(OutputKind::adapter, telling);
}

/// What is asked for by name and cannot be written, for want of the part that it holds.
void refuse_absent_outputs(const ConvertArguments& arguments, const Plan& plan) {
  if (plan.format != "gguf") return;
  for (const std::string& wanted : arguments.outputs) {
    const bool planned =
        std::ranges::any_of(plan.outputs, [&](const PlannedOutput& output) { return name(output.kind) == wanted; });
    if (planned) continue;
    const bool factors = wanted == "adapter";
    const bool tower = wanted == "mmproj";
    throw Error(ErrorCode::not_found, "has no {} for --outputs {}; {}",
                factors ? "low-rank factors" : (tower ? "vision tower" : "MTP layer"), wanted,
                factors ? "--adapter names some" : "`regauge graft` brings one from another checkpoint")
        .at(arguments.sources.front());
  }
}

/// Makes every large buffer a mapping of its own, given back when it is freed, so that what is held is what is in use.
/// Left to itself the allocator keeps buffers once it has seen them freed.
void give_memory_back() {
#ifdef __GLIBC__
  constexpr int kThresholdBytes = 256 << 10;
  ::mallopt(M_MMAP_THRESHOLD, kThresholdBytes);
  ::mallopt(M_TRIM_THRESHOLD, kThresholdBytes);
#endif
}

/// Runs the plan, and when it ends early with something to go on with, has the program say how.
Report execute_resumably(const Checkpoint& source, const Plan& plan, const ConvertOptions& options,
                         bool shows_progress) {
  Progress last;
  try {
    ProgressLine line(shows_progress);
    return execute(
        plan, source, options,
        [&](const Progress& progress) {
          last = progress;
          line.show(progress);
        },
        &interrupted);
  } catch (...) {
    if (last.bytes_done != 0 && std::filesystem::exists(Journal::path_of(plan.outputs.front().path))) {
      explain_failure(fmt::format("{} of {} are kept; to go on:\n  {}", format_bytes(last.bytes_done),
                                  format_bytes(last.bytes_total), command_line_with("convert", "--resume")));
    }
    throw;
  }
}

void listen_to_signals() {
  std::signal(SIGINT, note_interrupt);
  std::signal(SIGTERM, note_interrupt);
  // A limit on the size of files is an error of write() and not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace

int run_convert(const ConvertArguments& arguments) {
  const ConvertOptions options = options_of(arguments);
  if (!arguments.dry_run) listen_to_signals();
  if (options.max_memory != 0) give_memory_back();
  OpenedModel model(arguments.sources, open_options_of(arguments), OpenedModel::Adapters::attach,
                    arguments.norms == "announced" ? OpenedModel::Norms::as_announced : OpenedModel::Norms::by_data,
                    arguments.assets);
  const Checkpoint& source = model.first();
  if (options.format == "container" || (arguments.sources.size() == 1 && asks_for_a_copy(arguments, source))) {
    if (arguments.sources.size() > 1)
      throw Error(ErrorCode::unsupported, "a container takes one checkpoint in").at(arguments.sources[1]);
    return copy_whole_checkpoint(arguments, options, source, interrupted);
  }
  take_parts(arguments, options, model);
  const Plan plan = plan_conversion(model.paths(), arguments.target, options);
  refuse_absent_outputs(arguments, plan);
  refuse_overwriting_source(source, plan);
  if (!arguments.quiet && !arguments.json) {
    fmt::print(stderr, "{}{}", render_findings(source.findings), render_findings(plan.findings));
  }
  if (arguments.dry_run) {
    print(arguments.json ? convert_to_json(source, plan, nullptr).dump(2) + "\n" : render_plan(source, plan));
    return kExitYes;
  }
  if (!arguments.quiet && !arguments.json) fmt::print(stderr, "{}", render_lossy_plan(plan));
  ConvertManifest manifest(arguments);
  const Report report =
      execute_resumably(source, plan, options, stderr_is_terminal() && !arguments.quiet && !arguments.json);
  manifest.write(report, interrupted);
  if (arguments.json) {
    print(convert_to_json(source, plan, &report).dump(2) + "\n");
  } else if (!arguments.quiet) {
    print(render_report(source, plan, report));
  }
  return kExitYes;
}

void add_convert(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ConvertArguments>();
  CLI::App* command =
      app.add_subcommand("convert", "Write a checkpoint in another format, packed to packed where that is exact");
  command
      ->add_option("SRC", arguments->sources,
                   "Checkpoint: a directory or a file; several are one model, such as a GGUF and its adapter. Then the "
                   "target: a file, whose .rg.gguf, .gguf or .safetensors tells the format, or with --to a directory")
      ->required()
      ->option_text("... DST");
  command->add_option("--to", arguments->to, "Target format (default: by DST's extension)")
      ->check(CLI::IsMember({"gguf", "gptq", "mlx", "safetensors", "container"}));
  const CLI::IsMember dtypes({"f32", "f16", "bf16"});
  command->add_option("--dtype", arguments->dtype, "Type of tensors that are dense in SRC (default: as they are)")
      ->check(dtypes);
  command->add_option("--dense", arguments->dense, "Decode every quantized tensor into this type")->check(dtypes);
  command
      ->add_option(
          "--allow", arguments->allow,
          "Permit what is off by default: dense (F32 where no encoding is exact), rounded (codes kept, scales or "
          "offsets rounded), requantized (new codes of one bit more where the old ones cannot be kept)")
      ->check(CLI::IsMember({"dense", "rounded", "requantized"}))
      ->delimiter(',');
  command->add_option("--recipe", arguments->recipe,
                      "What tensors become: a preset such as Q4_K_M, mlx-4bit or int4-g128, or a JSON file, "
                      "docs/recipes.md (default: exact)");
  command
      ->add_option("--tensor-type", arguments->tensor_types,
                   "PATTERN=TYPE or @COMPONENT=TYPE, before the recipe's rules: ffn_down=Q6_K, @attention=int8-g128")
      ->allow_extra_args(false);
  command->add_option("--like", arguments->like, "Give each tensor the encoding it has in this checkpoint");
  command->add_option("--imatrix", arguments->imatrix, "Importance matrix for GGUF's quantizers, GGUF or .dat");
  command
      ->add_option("--mlx-rule", arguments->mlx_rule,
                   "Whose rounding MLX codes get: cpu, proved against MLX, or metal, by reading only (default: cpu)")
      ->check(CLI::IsMember({"cpu", "metal"}));
  command
      ->add_option("--require", arguments->require,
                   "Refuse unless every tensor arrives at least so well (default: no gate)")
      ->check(CLI::IsMember({"bytes", "values", "rounded"}));
  command->add_option("--drop", arguments->drop, "Leave parts out: vision, mtp, eora, foreign; separated by commas")
      ->check(CLI::IsMember({"vision", "mtp", "eora", "foreign"}))
      ->delimiter(',');
  command
      ->add_option("--layout", arguments->layout, "GPTQ modules: v1, v2, planar, marlin, marlin-runtime (default: v1)")
      ->check(CLI::IsMember({"v1", "v2", "planar", "marlin", "marlin-runtime"}));
  command
      ->add_option("--compress", arguments->compress,
                   "Compress a container's parts: zstd (default: stored as they are)")
      ->check(CLI::IsMember({"zstd"}));
  command->add_flag(
      "--no-value-digests", arguments->no_value_digests,
      "Leave the digests of the weights' values out of a container or manifest, which take a second reading");
  command
      ->add_option("--manifest", arguments->manifest,
                   "Write digests of the outputs, as `regauge checksum` would (default: none)")
      ->type_name("FILE");
  command->add_flag("--fresh", arguments->fresh, "Write anew where the same format would be copied file by file");
  command
      ->add_option("--outputs", arguments->outputs,
                   "Files of a GGUF: model, mmproj, mtp, adapter (default: model,mmproj,adapter)")
      ->check(CLI::IsMember({"model", "mmproj", "mtp", "adapter"}))
      ->delimiter(',');
  command->add_option("--split-max-size", arguments->shard_size,
                      "Most data bytes in one file: 4GiB, 500M (default: one file)");
  command->add_option("--mmproj", arguments->mmproj,
                      "Vision tower that goes with a GGUF (default: mmproj-NAME.gguf beside it)");
  command->add_option("--assets", arguments->assets,
                      "Directory whose config, tokenizer and other files are taken instead of SRC's");
  command->add_flag("--no-fold", arguments->no_fold,
                    "Leave the order of MLP columns alone, so that act-order down projections are refused");
  command->add_option("--name", arguments->name, "general.name of a GGUF (default: from SRC's name)");
  command->add_option("--adapter", arguments->adapter,
                      "Low-rank adapter that goes with SRC: a PEFT or MLX directory, a GGUF LoRA file (default: one "
                      "inside SRC, or NAME-LoRA.gguf beside a GGUF)");
  command
      ->add_option(
          "--eora", arguments->eora,
          "Low-rank factors: keep, merge (W + B*A in place of W, where --allow dense or --dense permits it) or "
          "drop (default: keep)")
      ->check(CLI::IsMember({"keep", "merge", "drop"}));
  command
      ->add_option("--merge-only", arguments->merge_only,
                   "With --eora merge: only weights of these Hugging Face names, a part or a glob; others keep theirs")
      ->type_name("PATTERN")
      ->delimiter(',');
  command->add_option("--zeros", arguments->zeros, "How GPTQ zero points are stored: auto, v1 or v2 (default: auto)")
      ->check(CLI::IsMember({"auto", "v1", "v2"}));
  command
      ->add_option("--norms", arguments->norms,
                   "Whether norms are w or 1 + w: by their data, or as names and shapes have announced (default: data)")
      ->check(CLI::IsMember({"data", "announced"}));
  add_threads(*command, arguments->threads);
  command->add_option("--max-memory", arguments->max_memory,
                      "Most memory to hold, such as 256MiB or 2GB (default: at most 80 MiB a thread)");
  command->add_flag("--verify", arguments->verify, "Read everything back and hold it against SRC before DST appears");
  command->add_flag("--resume", arguments->resume, "Go on with what an unfinished run left; start where there is none");
  command->add_flag("--dry-run", arguments->dry_run, "Print the plan and write nothing");
  add_json(*command, arguments->json);
  command->add_flag("--force", arguments->force, "Replace DST, and what an unfinished run left beside it");
  command->add_flag("-q,--quiet", arguments->quiet, "Print nothing but errors");
  command->footer(
      "Examples:\n"
      "  regauge convert qwen35-gptq-int4 model.gguf --dry-run\n"
      "  regauge convert qwen35-bf16-tiny values.safetensors --dtype f32");
  command->callback([&chosen, arguments] {
    // The last path is the target, however many there are before it.
    if (arguments->sources.size() < 2) throw CLI::RequiredError("DST");
    arguments->target = std::move(arguments->sources.back());
    arguments->sources.pop_back();
    chosen = [arguments] { return run_convert(*arguments); };
  });
}

}  // namespace regauge::cli
