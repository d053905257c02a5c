#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "convert/journal.h"
#include "convert/options.h"
#include "convert/plan.h"

namespace regauge {

/// One output under way: its writer, or the knowledge that an earlier run had put it in place.
struct OutputRun {
  std::unique_ptr<Writer> writer;        ///< null when the output is in place
  std::vector<std::size_t> first_array;  ///< of each step, in the writer
  std::optional<SealedOutput> in_place;  ///< as the journal knows it

  bool in_order() const { return writer != nullptr && writer->order() == Writer::Order::sequential; }
};

/// The outputs of a plan from the first look at their targets to the last rename.
class OutputRuns {
 public:
  OutputRuns(const Plan& plan, const ConvertOptions& options) : plan_(plan), options_(options) {}

  /// Throws Error{invalid} when a target or a partial output lies there that may not be replaced, before anything is
  /// touched. Only runs with a journal ask: others leave nothing that could have to be undone.
  void check_targets(const Journal* journal) const;

  /// Creates the partial outputs and fixes their sizes; with a resumed journal it takes over what is there.
  void begin(const Journal* journal);

  /// Completes every output under its partial name, notes that in the journal, and puts them in place, the model last.
  void finish(Journal* journal);

  /// Lets go of the writers and of what they have begun.
  void discard() noexcept;

  const OutputRun& operator[](std::size_t output) const { return runs_[output]; }
  std::uint64_t file_bytes(std::size_t output) const { return file_bytes_[output]; }
  bool any_in_order() const;

 private:
  std::unique_ptr<Writer> create(std::size_t output, const WriteOptions& how) const;
  void remove_replaced(const PlannedOutput& output) const;
  void begin_at(std::size_t output, Writer& writer) const;

  const Plan& plan_;
  const ConvertOptions& options_;
  std::vector<OutputRun> runs_;
  std::vector<std::uint64_t> file_bytes_;
};

}  // namespace regauge
