#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/file.h"

namespace regauge {

/// The files below one directory, named by relative paths: on disk, or kept inside another file. Everything that belongs to
/// a checkpoint is opened through one of these. Safe from any thread.
class Folder {
 public:
  virtual ~Folder() = default;
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  /// Where it lies, for messages.
  const std::filesystem::path& path() const noexcept { return path_; }
  std::string path_of(const std::filesystem::path& relative) const { return (path_ / relative).native(); }

  /// Size of the regular file of that name, symbolic links followed, or nothing when there is none.
  virtual std::optional<std::uint64_t> file_bytes(const std::filesystem::path& relative) const = 0;
  bool has_file(const std::filesystem::path& relative) const { return file_bytes(relative).has_value(); }
  /// Throws what File::open throws; the file's path is path_of(relative).
  virtual File open(const std::filesystem::path& relative) const = 0;
  /// Whether the file lies in the directory, symbolic links followed. Throws Error{io} when it cannot be followed.
  virtual bool stays_inside(const std::filesystem::path& relative) const = 0;

  /// As read_text_file().
  std::string read_text(const std::filesystem::path& relative, std::uint64_t max_bytes) const;

 protected:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {}

 private:
  std::filesystem::path path_;
};

using FolderPtr = std::shared_ptr<const Folder>;

/// A directory of the file system; an empty path is the current one. Touches nothing until asked.
FolderPtr disk_folder(std::filesystem::path path);

}  // namespace regauge
