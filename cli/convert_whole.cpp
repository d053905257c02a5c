#include "cli/convert_whole.h"

#include <chrono>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/render.h"
#include "base/text.h"
#include "cli/app.h"
#include "cli/convert_manifest.h"
#include "cli/progress_line.h"
#include "cli/terminal.h"
#include "convert/copy_whole.h"
#include "convert/render.h"
#include "formats/container/restore.h"
#include "formats/format.h"
#include "models/norm_shift.h"
#include "verify/value_digest.h"

namespace regauge::cli {
namespace {

/// zstd's own default.
constexpr int kCompressionLevel = 3;

struct Outcome {
  std::string what;  ///< "files restored"
  std::uint64_t bytes = 0;
  double seconds = 0.0;
  bool verified = false;
};

bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

void refuse_overwriting_source(const std::string& target, const Checkpoint& source) {
  if (same_file(target, source.path)) throw Error(ErrorCode::invalid, "the target is the source").at(target);
  for (const SourceFile& file : source.files) {
    if (same_file(target, file.file->path()))
      throw Error(ErrorCode::invalid, "the target is a file of the source").at(target);
  }
}

WriteOptions write_options(const ConvertArguments& arguments) {
  // A copy is begun anew where a planned conversion would go on: its bytes are the same.
  return {.overwrite = arguments.force,
          .replace_partial = arguments.force || arguments.resume,
          .directory = names_directory(arguments),
          .compression_level = arguments.compress.empty() ? 0 : kCompressionLevel};
}

/// The options of a container, which keeps value digests beside its tensors. A checkpoint that cannot be decoded is packed
/// without: a container takes whatever there is.
WriteOptions container_options(const ConvertArguments& arguments, const Checkpoint& source, int threads,
                               const std::atomic<bool>& interrupted) {
  WriteOptions options = write_options(arguments);
  if (arguments.no_value_digests) return options;
  try {
    Findings ignored;  // opening has told them
    const auto architecture = recognise_by_data(source, ignored);
    options.value_digests = tensor_value_digests({&source, architecture.get()}, threads, {}, &interrupted);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::io) throw;
    if (!arguments.quiet && !arguments.json)
      fmt::print(stderr, "note: no value digests are kept: {}\n", printable(error.what(), LineFeeds::keep));
  }
  return options;
}

void print_outcome(const ConvertArguments& arguments, const Checkpoint& source, const std::string& format,
                   const Outcome& outcome) {
  if (arguments.json) {
    Json out;
    out["schema"] = "regauge.copy/1";
    out["source"] = {{"path", json_text(source.path)}, {"format", source.format}, {"bytes", source.file_bytes()}};
    out["target"] = {{"path", json_text(arguments.target)}, {"format", format}, {"bytes", outcome.bytes}};
    out["tensors"] = source.tensors.size();
    out["fidelity"] = "bytes";
    out["verified"] = outcome.verified;
    out["seconds"] = outcome.seconds;
    print(out.dump(2) + "\n");
    return;
  }
  if (arguments.quiet) return;
  const double rate = outcome.seconds > 0 ? static_cast<double>(outcome.bytes) / 1e6 / outcome.seconds : 0.0;
  print(fmt::format("{} -> {} ({}, {} tensors, {}): {}, every byte{}\n{} written in {:.2f} s, {:.0f} MB/s\n",
                    printable(source.path), printable(arguments.target), format, format_count(source.tensors.size()),
                    format_bytes(source.file_bytes()), outcome.what, outcome.verified ? ", read back and compared" : "",
                    format_bytes(outcome.bytes), outcome.seconds, rate));
}

}  // namespace

int copy_whole_checkpoint(const ConvertArguments& arguments, const ConvertOptions& options, const Checkpoint& source,
                          const std::atomic<bool>& interrupted) {
  const auto start = std::chrono::steady_clock::now();
  refuse_overwriting_source(arguments.target, source);
  if (options.require && arguments.dry_run) fmt::print(stderr, "note: every byte is kept: any --require holds\n");
  if (arguments.dry_run) {
    print(fmt::format("{} -> {} ({}): every file as it is, {} tensors, {}\n", printable(source.path),
                      printable(arguments.target), options.format, format_count(source.tensors.size()),
                      format_bytes(source.file_bytes())));
    return kExitYes;
  }
  if (!arguments.quiet && !arguments.json) fmt::print(stderr, "{}", render_findings(source.findings));
  ConvertManifest manifest(arguments);
  Outcome outcome;
  if (source.format == "container" && options.format != "container") {
    const container::Restored restored =
        container::restore(arguments.sources.front(), arguments.target, write_options(arguments));
    outcome = {fmt::format("{} files restored", restored.files), restored.bytes, 0.0, true};
  } else {
    const Format& format = *find_format(options.format);
    const auto writer = options.format == "container"
                            ? format.take_whole(source, arguments.target,
                                                container_options(arguments, source, options.threads, interrupted))
                            : create_replay(source, arguments.target, write_options(arguments));
    ProgressLine line(stderr_is_terminal() && !arguments.quiet && !arguments.json);
    copy_whole(*writer, options.threads, [&](const Progress& progress) { line.show(progress); }, &interrupted);
    if (options.verify) {
      check_copy(source, open_checkpoint(writer->sealed_path()));
      outcome.verified = true;
    }
    writer->commit();
    outcome.what = options.format == "container" ? "packed" : "copied file by file";
    outcome.bytes = writer->file_bytes();
  }
  manifest.write(arguments.target, interrupted);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  print_outcome(arguments, source, options.format, outcome);
  return kExitYes;
}

}  // namespace regauge::cli
