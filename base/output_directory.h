#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/output_file.h"

namespace regauge {

/// A directory under construction: TARGET.partial beside the target, and a target that is not touched before commit(). The
/// partial is locked while in use, so a second run fails instead of writing into it. Files are reached step by step from the
/// directory itself and no symbolic link is followed, so nothing is written outside whatever lies there. Movable.
class OutputDirectory {
 public:
  /// Throws Error{invalid} when the target exists and may not be overwritten, or is anything but a directory, or when a
  /// stale partial lies there and may not be replaced; Error{io} when another run is writing the same target;
  /// Error{not_found} when the folder around it does not exist. A directory is only ever replaced when it is empty or has a
  /// file with the extension `mark` (".safetensors") at its top level: `--force` on a home folder is a slip of the hand.
  static OutputDirectory create(const std::filesystem::path& target, const OutputOptions& options,
                                std::string_view mark);

  OutputDirectory(OutputDirectory&& other) noexcept = default;
  OutputDirectory& operator=(OutputDirectory&& other) noexcept;
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  /// Gives the output up unless it was committed: the target stays as it was, the partial goes the way of on_failure. Only
  /// files that were made through this object are removed.
  ~OutputDirectory();

  /// Makes a file, and the folders on the way to it; in a resumed run, opens it as it is when it is there. Throws
  /// Error{invalid} for a name that name_fault() objects to and for one that is made twice, Error{io}.
  WritableFile make(const std::string& name);
  /// Makes a file that is `source` under another name, a hard link; false when the file system has none between them, and then
  /// nothing was made. Throws as make().
  bool link(const std::string& name, const std::filesystem::path& source);
  /// Opens a file that was made. Safe from any thread.
  WritableFile open(const std::string& name) const;

  /// Flushes everything to disk, puts the directory at the target and removes what it replaces; the object is then done
  /// with. Throws Error{invalid} when the partial holds what was not made through this object, or when without `overwrite`
  /// a target has come into being meanwhile, which stays.
  void commit();

  const std::filesystem::path& target() const noexcept { return target_; }
  const std::filesystem::path& partial() const noexcept { return partial_; }

  /// What is wrong with the name of a file, or null: it must be a plain relative path without '.' and '..'.
  static const char* name_fault(std::string_view name);

 private:
  OutputDirectory() = default;

  void check_target() const;
  void check_replaceable(const std::filesystem::path& directory) const;
  void lock_partial(const OutputOptions& options);
  void check_name(const std::string& name) const;
  FileDescriptor open_folder(std::string_view folder) const;
  void make_folder(const std::string& folder);
  void check_strangers() const;
  void flush() const;
  void move_into_place() const;
  void replace_target() const;
  void abandon() noexcept;

  FileDescriptor fd_;  // open exactly as long as there is something to commit or give up
  std::filesystem::path target_;
  std::filesystem::path partial_;
  std::string mark_;
  bool overwrite_ = false;
  bool resumes_ = false;
  OnFailure on_failure_ = OnFailure::remove;
  std::set<std::string> files_;
  std::set<std::string> linked_;   // of these: files of somebody else, which are on disk and need not be writable
  std::set<std::string> folders_;  // a folder sorts before what it holds
};

}  // namespace regauge
