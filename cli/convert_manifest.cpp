#include "cli/convert_manifest.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "cli/opened_model.h"
#include "verify/checksum.h"
#include "verify/manifest.h"
#include "verify/value_digest.h"

namespace regauge::cli {
namespace {

/// Where an output can be opened: under its name, or by the first of its parts.
std::string opening_path(const std::filesystem::path& output) {
  if (std::filesystem::exists(output)) return output.string();
  const std::string first = output.stem().string() + "-00001-of-";
  const std::filesystem::path folder = output.has_parent_path() ? output.parent_path() : ".";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(first) && entry.path().extension() == output.extension())
      return std::filesystem::path(output).replace_filename(name).string();
  }
  throw Error(ErrorCode::not_found, "is not there to be digested").at(output.string());
}

StoredSums sums_of(const Checkpoint& checkpoint, const std::optional<StoredDigests>& known, int threads,
                   const std::atomic<bool>& interrupted) {
  if (known) {
    if (auto sums = sums_of_written(checkpoint, *known)) return *std::move(sums);
  }
  return checksum(checkpoint, {{DigestAlgorithm::xxh3_128}, false, threads}, {}, &interrupted);
}

}  // namespace

ConvertManifest::ConvertManifest(const ConvertArguments& arguments) : arguments_(arguments) {
  if (arguments.manifest.empty() || arguments.dry_run) return;
  file_ = OutputFile::create(arguments.manifest, {.overwrite = arguments.force, .replace_partial = true});
}

void ConvertManifest::write(const Report& report, const std::atomic<bool>& interrupted) {
  if (!file_) return;
  std::vector<std::string> paths;
  std::vector<std::optional<StoredDigests>> known;
  for (const OutputResult& output : report.outputs) {
    paths.push_back(opening_path(output.path));
    known.push_back(output.stored);
  }
  write(paths, known, interrupted);
}

void ConvertManifest::write(const std::filesystem::path& target, const std::atomic<bool>& interrupted) {
  if (file_) write({opening_path(target)}, {std::nullopt}, interrupted);
}

void ConvertManifest::write(const std::vector<std::string>& paths,
                            const std::vector<std::optional<StoredDigests>>& known,
                            const std::atomic<bool>& interrupted) {
  const OpenedModel model(paths);
  std::vector<StoredSums> sums;
  for (std::size_t i = 0; i < paths.size(); ++i)
    sums.push_back(sums_of(*model.paths()[i].checkpoint, known[i], arguments_.threads, interrupted));
  std::optional<ValueDigests> values;
  if (!arguments_.no_value_digests) values = value_digests(model.paths(), arguments_.threads, {}, &interrupted);
  file_->write_at(0, bytes_of(checksum_to_json(sums, values ? &*values : nullptr).dump(2) + "\n"));
  file_->commit();
}

}  // namespace regauge::cli
