#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_file.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/common_options.h"
#include "cli/interrupt.h"
#include "cli/opened_model.h"
#include "cli/terminal.h"
#include "verify/checksum.h"
#include "verify/manifest_check.h"
#include "verify/value_digest.h"

namespace regauge::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct ChecksumArguments {
  std::vector<std::string> paths;
  std::vector<std::string> algorithms;
  bool files = false;
  bool values = false;
  bool all = false;
  bool no_tensors = false;
  std::string check;
  std::string write;
  std::string form = "json";
  int threads = 0;
  bool json = false;
  bool force = false;
  bool quiet = false;
};

/// What is to be digested: by the options, or by what a manifest has.
struct Wanted {
  std::vector<DigestAlgorithm> algorithms;  ///< of arrays; none: not at all
  bool files = false;
  bool values = false;
};

struct Results {
  std::vector<StoredSums> sums;
  std::optional<ValueDigests> values;

  const ValueDigests* value_digests() const { return values ? &*values : nullptr; }
};

void tell_rate(const ChecksumArguments& arguments, const std::string& what, double amount, double seconds,
               std::string_view unit) {
  if (arguments.quiet || arguments.json) return;
  constexpr double kLeastSeconds = 1e-6;
  fmt::print(stderr, "{} in {:.2f} s, {:.2f} {}\n", what, seconds, amount / std::max(seconds, kLeastSeconds) / 1e9,
             unit);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Results digest(const ChecksumArguments& arguments, const OpenedModel& opened, const Wanted& wanted) {
  const std::atomic<bool>& interrupted = catch_interrupts();
  Results results;
  const bool shown = !arguments.quiet && !arguments.json;
  if (!wanted.algorithms.empty() || wanted.files) {
    const auto start = Clock::now();
    std::uint64_t bytes = 0;
    for (const OpenedPath& path : opened.paths()) {
      PercentLine line("reading " + path.checkpoint->path, shown);
      results.sums.push_back(checksum(
          *path.checkpoint, {wanted.algorithms, wanted.files, arguments.threads},
          [&](std::uint64_t done, std::uint64_t total) { line.update(done, total); }, &interrupted));
      bytes += results.sums.back().bytes_read;
    }
    tell_rate(arguments, "read " + format_bytes(bytes), static_cast<double>(bytes), seconds_since(start), "GB/s");
  }
  if (wanted.values) {
    const auto start = Clock::now();
    std::uint64_t values = 0;
    {
      PercentLine line("decoding", shown);
      results.values = value_digests(
          opened.paths(), arguments.threads,
          [&](std::uint64_t done, std::uint64_t total) {
            values = total;
            line.update(done, total);
          },
          &interrupted);
    }
    tell_rate(arguments, "decoded " + format_count(values) + " values", static_cast<double>(values),
              seconds_since(start), "G values/s");
  }
  return results;
}

std::string value_lines(const ValueDigests& values, bool with_tensors) {
  std::string out;
  if (with_tensors) {
    for (const auto& [name, digest] : values.tensors)
      out += fmt::format("values    {}  {}\n", hex(digest), printable(name));
  }
  for (const auto& [name, digest] : values.roots) out += fmt::format("values    {}  root:{}\n", hex(digest), name);
  return out + fmt::format("values    {}  model\n", hex(values.model));
}

std::string lines(const Results& results, bool with_tensors) {
  std::string out;
  for (const StoredSums& sums : results.sums) out += render_lines(sums, with_tensors);
  if (results.values) out += value_lines(*results.values, with_tensors);
  return out;
}

void write_manifest(const ChecksumArguments& arguments, const std::string& text) {
  OutputFile file = OutputFile::create(arguments.write, {.overwrite = arguments.force, .replace_partial = true});
  file.write_at(0, bytes_of(text));
  file.commit();
}

Wanted wanted_of(const ChecksumArguments& arguments) {
  Wanted wanted;
  wanted.files = arguments.files || arguments.all;
  wanted.values = arguments.values || arguments.all;
  if (arguments.all || !arguments.algorithms.empty() || (!wanted.files && !wanted.values)) {
    for (const std::string& name : arguments.algorithms) wanted.algorithms.push_back(*digest_algorithm_from_name(name));
    if (wanted.algorithms.empty()) wanted.algorithms.push_back(DigestAlgorithm::xxh3_128);
  }
  return wanted;
}

int print_digests(const ChecksumArguments& arguments) {
  const Wanted wanted = wanted_of(arguments);
  if (arguments.form != "json" && wanted.values)
    throw Error(ErrorCode::invalid, "lines of llama-gguf-hash have no value digests: --format json has");
  const OpenedModel opened(arguments.paths, {}, OpenedModel::Adapters::keep_apart);
  const Results results = digest(arguments, opened, wanted);
  const std::string text = arguments.json || arguments.form == "json"
                               ? checksum_to_json(results.sums, results.value_digests()).dump(2) + "\n"
                               : "";
  if (!arguments.write.empty())
    write_manifest(arguments, arguments.form == "json" ? text : lines(results, !arguments.no_tensors));
  if (arguments.json) {
    print(text);
  } else if (arguments.write.empty() || !arguments.quiet) {
    print(lines(results, !arguments.no_tensors));
  }
  return kExitYes;
}

/// What of the manifest to check: what the options name, else everything that its digests of stored bytes say, else values.
Wanted wanted_of(const ChecksumArguments& arguments, const Manifest& manifest) {
  Wanted wanted;
  const bool chosen = arguments.files || arguments.values || arguments.all || !arguments.algorithms.empty();
  wanted.files = arguments.files || (arguments.all && manifest.has_whole_files());
  wanted.values = arguments.values || (arguments.all && manifest.values);
  if (!arguments.algorithms.empty()) {
    wanted.algorithms.push_back(*digest_algorithm_from_name(arguments.algorithms.front()));
  } else if ((arguments.all || !chosen) && manifest.has_stored()) {
    wanted.algorithms.push_back(*manifest.algorithm());
  } else if (!chosen) {
    wanted.files = manifest.has_whole_files();
    wanted.values = !wanted.files;
  }
  if ((wanted.files && !manifest.has_whole_files()) || (wanted.values && !manifest.values))
    throw Error(ErrorCode::invalid, "has no digests of {}", wanted.files ? "whole files" : "values")
        .at(arguments.check);
  return wanted;
}

void add(ManifestReport& report, ManifestReport more) {
  report.same += more.same;
  const auto append = [](std::vector<std::string>& to, std::vector<std::string>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(report.changed, more.changed);
  append(report.retyped, more.retyped);
  append(report.missing, more.missing);
  append(report.added, more.added);
}

int check_digests(const ChecksumArguments& arguments) {
  constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{512} << 20;
  const Manifest manifest = parse_manifest(read_text_file(arguments.check, kMaxManifestBytes), arguments.check);
  const Wanted wanted = wanted_of(arguments, manifest);
  const OpenedModel opened(arguments.paths, {}, OpenedModel::Adapters::keep_apart);
  const Results results = digest(arguments, opened, wanted);
  ManifestReport report;
  if (!wanted.algorithms.empty()) add(report, check_stored(manifest, results.sums, wanted.algorithms.front()));
  if (wanted.files) add(report, check_whole_files(manifest, results.sums));
  if (wanted.values) add(report, check_values(manifest, *results.values));
  if (arguments.json) {
    print(report_to_json(report, arguments.check).dump(2) + "\n");
  } else if (!arguments.quiet) {
    print(render_report(report));
  }
  return report.equal() ? kExitYes : kExitNo;
}

int run_checksum(const ChecksumArguments& arguments) {
  return arguments.check.empty() ? print_digests(arguments) : check_digests(arguments);
}

}  // namespace

void add_checksum(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ChecksumArguments>();
  CLI::App* command = app.add_subcommand("checksum", "Digests of stored bytes, whole files or values; manifests");
  command->add_option("PATH", arguments->paths, "Checkpoint: a directory or a file; several are one model for --values")
      ->required();
  command
      ->add_option("--algorithm", arguments->algorithms,
                   "Of stored arrays: xxh3-128, xxh64, sha1, sha256, uuid; separated by commas (default: xxh3-128)")
      ->check(CLI::IsMember({"xxh3-128", "xxh64", "sha1", "sha256", "uuid"}))
      ->delimiter(',');
  command->add_flag("--files", arguments->files, "SHA-256 of whole files, as the Hugging Face Hub lists it");
  command->add_flag("--values", arguments->values, "Digests of what the weights are, the same in every format");
  command->add_flag("--all", arguments->all, "All three: arrays, whole files and values");
  command->add_flag("--no-tensors", arguments->no_tensors, "Lines for files and components only");
  CLI::Option* write = command->add_option("--write", arguments->write, "Write a manifest (default: none)");
  command->add_option("--format", arguments->form, "Of the manifest: json or llama-gguf-hash (default: json)")
      ->check(CLI::IsMember({"json", "llama-gguf-hash"}))
      ->needs(write);
  command
      ->add_option("--check", arguments->check,
                   "Hold PATH against a manifest of either form; exit 1 when anything differs")
      ->excludes(write);
  add_threads(*command, arguments->threads);
  add_json(*command, arguments->json);
  command->add_flag("--force", arguments->force, "Replace an existing manifest");
  command->add_flag("-q,--quiet", arguments->quiet, "Print nothing that was not asked for");
  command->footer(
      "Examples:\n"
      "  regauge checksum samples/qwen35-tiny-mtp.gguf --algorithm sha256\n"
      "  regauge checksum samples/qwen35-gptq-int4 --values --no-tensors");
  command->callback([&chosen, arguments] { chosen = [arguments] { return run_checksum(*arguments); }; });
}

}  // namespace regauge::cli
