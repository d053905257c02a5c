#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_file.h"
#include "base/render.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/common_options.h"
#include "cli/interrupt.h"
#include "cli/opened_model.h"
#include "cli/terminal.h"
#include "cli/verify_round_trip.h"
#include "convert/render.h"
#include "verify/checksum.h"
#include "verify/diff.h"
#include "verify/faithful.h"
#include "verify/manifest_check.h"
#include "verify/render_html.h"
#include "verify/sound.h"

namespace regauge::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct VerifyArguments {
  std::string first;
  std::string second;
  std::vector<std::string> with_first;
  std::vector<std::string> with_second;
  std::string manifest;
  std::string only;
  std::string html;
  std::vector<std::string> max_relative;
  std::vector<std::string> min_signal;
  bool round_trip = false;
  RoundTripArguments trip;  ///< what --round-trip alone has
  int threads = 0;
  bool all = false;
  bool json = false;
  bool force = false;
  bool quiet = false;

  bool shows_progress() const { return !quiet && !json; }
};

OpenedModel open_model(const std::string& path, const std::vector<std::string>& with) {
  std::vector<std::string> paths{path};
  paths.insert(paths.end(), with.begin(), with.end());
  return OpenedModel(paths);
}

/// What a manifest says of the paths, where one was named.
std::optional<ManifestReport> check_manifest(const VerifyArguments& arguments, const OpenedModel& model,
                                             const std::atomic<bool>& interrupted) {
  if (arguments.manifest.empty()) return std::nullopt;
  constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{512} << 20;
  const Manifest manifest = parse_manifest(read_text_file(arguments.manifest, kMaxManifestBytes), arguments.manifest);
  const auto algorithm = manifest.algorithm();
  if (!algorithm) throw Error(ErrorCode::invalid, "has no digests of arrays").at(arguments.manifest);
  std::vector<StoredSums> sums;
  for (const OpenedPath& path : model.paths())
    sums.push_back(checksum(*path.checkpoint, {{*algorithm}, false, arguments.threads}, {}, &interrupted));
  return check_stored(manifest, sums, *algorithm);
}

Json soundness_json(const VerifyArguments& arguments, const std::vector<Soundness>& results,
                    const std::optional<ManifestReport>& manifest, bool sound) {
  Json json;
  json["schema"] = "regauge.verify/1";
  json["path"] = json_text(arguments.first);
  json["sound"] = sound;
  std::uint64_t tensors = 0;
  std::uint64_t values = 0;
  json["findings"] = Json::array();
  for (const Soundness& one : results) {
    tensors += one.tensors;
    values += one.values;
    for (const Finding& finding : one.findings) json["findings"].push_back(to_json(finding));
  }
  json["tensors"] = tensors;
  json["values"] = values;
  json["manifest"] = manifest ? report_to_json(*manifest, arguments.manifest) : Json(nullptr);
  return json;
}

std::string soundness_text(const std::vector<Soundness>& results, const std::optional<ManifestReport>& manifest,
                           bool sound) {
  std::string out;
  std::uint64_t tensors = 0;
  std::uint64_t values = 0;
  for (const Soundness& one : results) {
    tensors += one.tensors;
    values += one.values;
    out += render_findings(one.findings);
  }
  if (manifest) out += render_report(*manifest);
  return out + fmt::format("{} tensors, {} values: {}\n", format_count(tensors), format_count(values),
                           sound ? "sound" : "not sound");
}

void tell_rate(const VerifyArguments& arguments, std::string_view what, std::uint64_t values, double seconds) {
  if (!arguments.shows_progress()) return;
  constexpr double kLeastSeconds = 1e-6;
  fmt::print(stderr, "{} {} values in {:.2f} s, {:.2f} G values/s\n", what, format_count(values), seconds,
             static_cast<double>(values) / std::max(seconds, kLeastSeconds) / 1e9);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int verify_one(const VerifyArguments& arguments) {
  const std::atomic<bool>& interrupted = catch_interrupts();
  const OpenedModel model = open_model(arguments.first, arguments.with_first);
  const auto manifest = check_manifest(arguments, model, interrupted);
  std::vector<Soundness> results;
  const auto start = Clock::now();
  std::uint64_t values = 0;
  bool sound = !manifest || manifest->equal();
  for (const OpenedPath& path : model.paths()) {
    PercentLine line("decoding " + path.checkpoint->path, arguments.shows_progress());
    results.push_back(examine_soundness(
        *path.checkpoint, arguments.threads, [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); },
        &interrupted));
    sound = sound && results.back().sound();
    values += results.back().values;
  }
  tell_rate(arguments, "decoded", values, seconds_since(start));
  if (arguments.json) {
    print(soundness_json(arguments, results, manifest, sound).dump(2) + "\n");
  } else if (!arguments.quiet) {
    print(soundness_text(results, manifest, sound));
  }
  return sound ? kExitYes : kExitNo;
}

std::vector<Gate> gates_of(const VerifyArguments& arguments) {
  std::vector<Gate> gates;
  for (const std::string& text : arguments.max_relative)
    gates.push_back(parse_gate(Gate::Bound::max_relative_error, text));
  for (const std::string& text : arguments.min_signal)
    gates.push_back(parse_gate(Gate::Bound::min_signal_to_noise, text));
  return gates;
}

/// Creates the report's file, so that a place which cannot be written is known before the work.
std::optional<OutputFile> open_html(const VerifyArguments& arguments) {
  if (arguments.html.empty()) return std::nullopt;
  return OutputFile::create(arguments.html, {.overwrite = arguments.force, .replace_partial = true});
}

int verify_two(const VerifyArguments& arguments) {
  const std::atomic<bool>& interrupted = catch_interrupts();
  const std::vector<Gate> gates = gates_of(arguments);
  OpenedModel candidate = open_model(arguments.first, arguments.with_first);
  OpenedModel reference = open_model(arguments.second, arguments.with_second);
  const auto telling = arguments.shows_progress() ? OpenedModel::Telling::note : OpenedModel::Telling::quiet;
  candidate.take_parts_like(reference, telling);
  reference.take_parts_like(candidate, telling);
  auto html = open_html(arguments);
  const auto start = Clock::now();
  const DiffOptions options{.only = arguments.only, .keys = false, .decode_all = true, .threads = arguments.threads};
  Diff measured;
  {
    PercentLine line("comparing", arguments.shows_progress());
    measured = diff(
        candidate.paths(), reference.paths(), options,
        [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); }, &interrupted);
  }
  const Faithfulness result = judge(std::move(measured), gates);
  tell_rate(arguments, "compared", result.whole.elements, seconds_since(start));
  if (html) {
    html->write_at(0, bytes_of(render_faithfulness_html(result, arguments.first, arguments.second)));
    html->commit();
  }
  if (arguments.json) {
    print(faithfulness_to_json(result, arguments.first, arguments.second).dump(2) + "\n");
  } else if (!arguments.quiet) {
    constexpr std::size_t kWorst = 10;
    print(render_faithfulness(result, arguments.all ? result.diff.tensors.size() : kWorst));
  }
  return result.passed() ? kExitYes : kExitNo;
}

int run_round_trip(const VerifyArguments& arguments) {
  if (!arguments.second.empty() || !arguments.with_first.empty() || !arguments.manifest.empty() ||
      !arguments.html.empty() || !arguments.only.empty() || !arguments.max_relative.empty() ||
      !arguments.min_signal.empty())
    throw Error(ErrorCode::invalid, "--round-trip takes one checkpoint, --via, --allow, --require, --drop and --keep");
  RoundTripArguments trip = arguments.trip;
  trip.source = arguments.first;
  trip.threads = arguments.threads;
  trip.all = arguments.all;
  trip.json = arguments.json;
  trip.quiet = arguments.quiet;
  return verify_round_trip(trip);
}

int run_verify(const VerifyArguments& arguments) {
  if (arguments.round_trip) return run_round_trip(arguments);
  if (arguments.second.empty()) {
    if (!arguments.max_relative.empty() || !arguments.min_signal.empty() || !arguments.only.empty() ||
        !arguments.html.empty())
      throw Error(ErrorCode::invalid, "--max-rel, --min-snr, --only and --html are for two checkpoints");
    return verify_one(arguments);
  }
  if (!arguments.manifest.empty()) throw Error(ErrorCode::invalid, "--manifest is for one checkpoint");
  return verify_two(arguments);
}

/// Options that mean something on a round trip alone.
void add_round_trip(CLI::App& command, VerifyArguments& arguments) {
  RoundTripArguments& trip = arguments.trip;
  CLI::Option* flag = command.add_flag("--round-trip", arguments.round_trip,
                                       "Convert A along --via and back to its format, and tell what came back of it");
  CLI::Option* via = command.add_option("--via", trip.via,
                                        "Formats on the way: gguf, mlx, gptq, safetensors, container, in this order");
  via->check(CLI::IsMember({"gguf", "mlx", "gptq", "safetensors", "container"}))->delimiter(',')->needs(flag);
  flag->needs(via);
  command.add_option("--allow", trip.allow, "Passed on to every conversion: dense, rounded")
      ->check(CLI::IsMember({"dense", "rounded"}))
      ->delimiter(',')
      ->needs(flag);
  command.add_option("--require", trip.require, "Passed on to every conversion (default: no gate)")
      ->check(CLI::IsMember({"bytes", "values", "rounded"}))
      ->needs(flag);
  command
      .add_option("--drop", trip.drop,
                  "Passed on to every conversion: vision, mtp, eora, foreign, which are then not missed")
      ->check(CLI::IsMember({"vision", "mtp", "eora", "foreign"}))
      ->delimiter(',')
      ->needs(flag);
  command
      .add_option("--keep", trip.keep,
                  "Directory for the outputs on the way (default: one for temporary files, removed afterwards)")
      ->type_name("DIR")
      ->needs(flag);
}

}  // namespace

void add_verify(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<VerifyArguments>();
  CLI::App* command = app.add_subcommand("verify", "Is a checkpoint sound; or, how faithful is it to a reference");
  command->add_option("A", arguments->first, "Checkpoint: a directory or a file")->required();
  command->add_option("B", arguments->second, "The reference that A is measured against (default: A by itself)");
  command->add_option(
      "--with-a", arguments->with_first,
      "What goes with A, such as an adapter (default: mmproj-NAME.gguf and NAME-LoRA.gguf beside a GGUF)");
  command->add_option("--with-b", arguments->with_second, "The same of B");
  command
      ->add_option(
          "--max-rel", arguments->max_relative,
          "Largest relative Frobenius error: 0.05 of the model, text=0.05 or mlp=0.06 of a part, tensor=0.1 of each")
      ->delimiter(',')
      ->type_name("BOUND");
  command->add_option("--min-snr", arguments->min_signal, "Least signal-to-noise ratio in dB, written the same way")
      ->delimiter(',')
      ->type_name("BOUND");
  command->add_option("--only", arguments->only, "Tensors of these Hugging Face names: a part, or a glob with * and ?")
      ->type_name("PATTERN");
  command->add_option("--manifest", arguments->manifest, "Hold A against the digests of arrays in this file as well");
  add_round_trip(*command, *arguments);
  command
      ->add_option("--html", arguments->html,
                   "Write a report for browsers, one file that needs nothing else (default: none)")
      ->type_name("FILE");
  command->add_flag("--force", arguments->force, "Replace an existing report");
  command->add_flag("--all", arguments->all, "List all tensors that differ, not the ten worst");
  add_answer_options(*command, arguments->threads, arguments->json, arguments->quiet);
  command->footer(
      "Examples:\n"
      "  regauge verify samples/qwen35-bf16-tiny samples/qwen35-bf16-tiny --max-rel 0\n"
      "  regauge verify --round-trip samples/qwen35-gptq-int4 --via gguf,mlx --require values");
  command->callback([&chosen, arguments] { chosen = [arguments] { return run_verify(*arguments); }; });
}

}  // namespace regauge::cli
