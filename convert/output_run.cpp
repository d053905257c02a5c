#include "convert/output_run.h"

#include <algorithm>
#include <system_error>

#include <sys/stat.h>

#include "base/error.h"
#include "base/output_file.h"

namespace regauge {
namespace {

/// What a rename leaves alone, of a file or directory; nothing when it is not there.
std::optional<SealedOutput> identity_of(const std::filesystem::path& path, std::uint64_t file_bytes) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return std::nullopt;
  SealedOutput output{.device = info.st_dev, .inode = info.st_ino, .modified_ns = 0, .file_bytes = file_bytes};
  if (S_ISREG(info.st_mode)) {
    output.modified_ns = static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
  }
  return output;
}

/// The output as the journal knows it, when the earlier run was killed after it had put it in place.
std::optional<SealedOutput> in_place(const Journal* journal, const Plan& plan, std::size_t output) {
  if (journal == nullptr || journal->sealed().size() != plan.outputs.size()) return std::nullopt;
  const SealedOutput& sealed = journal->sealed()[output];
  const auto there = identity_of(plan.outputs[output].path, sealed.file_bytes);
  return there == sealed ? there : std::nullopt;
}

bool holds_something(const std::filesystem::path& partial) {
  std::error_code ignored;
  const auto status = std::filesystem::symlink_status(partial, ignored);
  if (!std::filesystem::exists(status)) return false;
  if (std::filesystem::is_regular_file(status)) return std::filesystem::file_size(partial, ignored) != 0;
  return !std::filesystem::is_directory(status) || !std::filesystem::is_empty(partial, ignored);
}

}  // namespace

void OutputRuns::check_targets(const Journal* journal) const {
  for (std::size_t o = 0; o < plan_.outputs.size(); ++o) {
    const std::filesystem::path& path = plan_.outputs[o].path;
    if (in_place(journal, plan_, o)) continue;
    std::error_code ignored;
    // A model that is split goes under other names, which its writer looks at.
    const bool is_split = options_.shard_bytes != 0 && !plan_.outputs[o].directory;
    if (!is_split && !options_.overwrite && std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) {
      throw Error(ErrorCode::invalid, "exists already").at(path.native());
    }
    // Bytes that nobody has kept account of are no start.
    const auto partial = OutputFile::partial_path(path);
    const bool taken_over = journal != nullptr && journal->resumed();
    if (!taken_over && !options_.replace_partial && holds_something(partial)) {
      throw Error(ErrorCode::invalid, "was left by a run that did not finish{}: --force starts over",
                  options_.resume ? " and kept no journal" : "")
          .at(partial.native());
    }
  }
}

std::unique_ptr<Writer> OutputRuns::create(std::size_t output, const WriteOptions& how) const {
  const PlannedOutput& planned = plan_.outputs[output];
  WriteOptions options = how;
  options.overwrite = options_.overwrite;
  options.directory = planned.directory;
  options.shard_bytes = options_.shard_bytes;
  options.files = planned.files;
  options.kept = planned.kept;
  options.new_file = planned.new_file;
  options.link_kept = options_.link_kept;
  return find_format(plan_.format)->create(planned.path, options);
}

void OutputRuns::begin_at(std::size_t output, Writer& writer) const {
  std::vector<ArrayPlan> arrays;
  for (const Step& step : plan_.outputs[output].steps) {
    for (const StepArray& array : step.arrays) arrays.push_back(array.plan);
  }
  writer.begin(plan_.outputs[output].metadata, arrays);
}

void OutputRuns::begin(const Journal* journal) {
  runs_.resize(plan_.outputs.size());
  file_bytes_.resize(plan_.outputs.size());
  const bool resume = journal != nullptr && journal->resumed();
  const WriteOptions how{
      .replace_partial = options_.replace_partial && !resume, .resume = resume, .keep_partial = journal != nullptr};
  for (std::size_t o = 0; o < runs_.size(); ++o) {
    OutputRun& run = runs_[o];
    run.in_place = in_place(journal, plan_, o);
    if (run.in_place) {
      remove_replaced(plan_.outputs[o]);
      continue;
    }
    run.writer = create(o, how);
    if (resume && run.in_order()) {
      // It cannot go on in the middle.
      run.writer.reset();
      run.writer = create(o, {.replace_partial = true, .keep_partial = true});
    }
  }
  for (std::size_t o = 0; o < runs_.size(); ++o) {
    std::size_t arrays = 0;
    for (const Step& step : plan_.outputs[o].steps) {
      runs_[o].first_array.push_back(arrays);
      arrays += step.arrays.size();
    }
    if (runs_[o].writer != nullptr) begin_at(o, *runs_[o].writer);
  }
}

/// A directory changes places with the one that it replaces, which is then removed; the earlier run did not get so far.
void OutputRuns::remove_replaced(const PlannedOutput& output) const {
  const auto partial = OutputFile::partial_path(output.path);
  std::error_code ignored;
  if (options_.overwrite && std::filesystem::is_directory(std::filesystem::symlink_status(partial, ignored))) {
    std::filesystem::remove_all(partial, ignored);
  }
}

void OutputRuns::finish(Journal* journal) {
  std::vector<SealedOutput> sealed;
  for (std::size_t o = 0; o < runs_.size(); ++o) {
    if (runs_[o].in_place) {
      file_bytes_[o] = runs_[o].in_place->file_bytes;
      sealed.push_back(*runs_[o].in_place);
      continue;
    }
    runs_[o].writer->seal();
    file_bytes_[o] = runs_[o].writer->file_bytes();
    sealed.push_back(identity_of(runs_[o].writer->sealed_path(), file_bytes_[o]).value_or(SealedOutput{}));
  }
  // From here on a rename may have happened, and what is in place must be told from what was there before.
  if (journal != nullptr) journal->add(sealed);
  for (std::size_t o = runs_.size(); o-- > 0;) {
    if (runs_[o].writer != nullptr) runs_[o].writer->commit();
  }
}

void OutputRuns::discard() noexcept {
  for (std::size_t o = 0; o < runs_.size(); ++o) {
    if (runs_[o].writer == nullptr) continue;
    runs_[o].writer.reset();
    try {
      // Only the format knows which files there are: a writer that takes them over and gives up removes them.
      const std::unique_ptr<Writer> heir = create(o, {.resume = true, .keep_partial = false});
      begin_at(o, *heir);
    } catch (const std::exception&) {
      // What it had taken over by then is gone; the reason why it failed is the one that is being reported already.
    }
  }
}

bool OutputRuns::any_in_order() const {
  return std::ranges::any_of(runs_, [](const OutputRun& run) { return run.in_order(); });
}

}  // namespace regauge
