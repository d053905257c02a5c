#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/writable_file.h"

namespace regauge {

/// What becomes of the partial file when an output is given up.
enum class OnFailure : std::uint8_t { remove, keep };

struct OutputOptions {
  bool overwrite = false;        ///< an existing regular file at the target may be replaced
  bool replace_partial = false;  ///< what a run that did not finish left behind may be discarded
  bool resume = false;           ///< what a run that did not finish left behind is gone on with, its bytes as they are
  OnFailure on_failure = OnFailure::remove;
};

/// A file under construction: TARGET.partial beside the target, written by position, and a target that is not touched
/// before commit(). The partial is locked while in use, so a second run fails instead of writing into it. Movable.
class OutputFile {
 public:
  /// Throws Error{invalid} when the target exists and may not be overwritten, when it is anything but a regular file, or
  /// when a stale partial lies there and may not be replaced; Error{io} when another run is writing the same target;
  /// Error{not_found} when the folder does not exist. A target that is a symbolic link is itself replaced.
  static OutputFile create(const std::filesystem::path& target, const OutputOptions& options = {});

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  /// Gives the output up unless it was committed: the target stays as it was, the partial goes the way of on_failure.
  ~OutputFile();

  /// The partial file; what it throws names its path.
  WritableFile& file() noexcept { return file_; }
  const WritableFile& file() const noexcept { return file_; }
  void preallocate(std::uint64_t bytes) { file_.preallocate(bytes); }
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) { file_.write_at(offset, bytes); }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const { file_.read_at(offset, out); }
  void flush() { file_.flush(); }

  /// Flushes the file, renames it to the target and flushes the folder; the object is then done with. Without `overwrite` a
  /// target that has come into being meanwhile is Error{invalid} and stays.
  void commit();

  const std::filesystem::path& target() const noexcept { return target_; }
  const std::filesystem::path& partial() const noexcept { return partial_; }

  /// Where create() puts the partial of `target`.
  static std::filesystem::path partial_path(const std::filesystem::path& target);

 private:
  OutputFile() = default;

  void lock_partial(const OutputOptions& options);
  void move_into_place();
  void abandon() noexcept;

  WritableFile file_;  // open exactly as long as there is something to commit or give up
  std::filesystem::path target_;
  std::filesystem::path partial_;
  bool overwrite_ = false;
  OnFailure on_failure_ = OnFailure::remove;
};

}  // namespace regauge
