#include "base/output_file.h"

#include <cerrno>
#include <cstdio>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/posix.h"

namespace regauge {
namespace {

void check_target(const std::filesystem::path& target, bool overwrite) {
  struct stat info{};
  if (::lstat(target.c_str(), &info) != 0) return;
  if (!S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode)) {
    throw Error(ErrorCode::invalid, "exists and is not a regular file").at(target.native());
  }
  if (!overwrite) throw Error(ErrorCode::invalid, "exists already").at(target.native());
}

}  // namespace

std::filesystem::path OutputFile::partial_path(const std::filesystem::path& target) {
  auto partial = target;
  partial += ".partial";
  return partial;
}

OutputFile OutputFile::create(const std::filesystem::path& target, const OutputOptions& options) {
  if (!target.has_filename() || target.filename() == "." || target.filename() == "..") {
    throw Error(ErrorCode::invalid, "is not the name of a file").at(target.native());
  }
  check_target(target, options.overwrite);
  OutputFile output;
  output.target_ = target;
  output.partial_ = partial_path(target);
  output.overwrite_ = options.overwrite;
  output.on_failure_ = options.on_failure;
  output.lock_partial(options);
  // Another run may have finished the target between the first look and the lock.
  check_target(target, options.overwrite);
  return output;
}

void OutputFile::lock_partial(const OutputOptions& options) {
  const auto open_partial = [this](int flags) {
    return FileDescriptor(retry_interrupted([&] {
      return ::open(partial_.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | flags, 0666);
    }));
  };
  // The path may change hands between opening and locking: its holder commits or gives up. Then what we locked is the
  // finished target or an unlinked file, and we start over. Truncating before that check would destroy somebody's result.
  for (;;) {
    FileDescriptor fd = open_partial(O_CREAT | O_EXCL);
    if (!fd && errno == EEXIST) {
      fd = open_partial(0);
      if (!fd && errno == ENOENT) continue;
    }
    if (!fd) {
      const int error = errno;
      if (error == ENOENT || error == ENOTDIR) {
        throw Error(ErrorCode::not_found, "there is no such folder to write to").at(target_.native());
      }
      if (error == ELOOP || error == EISDIR || error == ENXIO) {
        throw Error(ErrorCode::invalid, "exists and is not a regular file").at(partial_.native());
      }
      throw Error(ErrorCode::io, "cannot be created: {}", system_message(error)).at(partial_.native());
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      throw Error(ErrorCode::invalid, "exists and is not a regular file").at(partial_.native());
    }
    if (!lock_exclusively(fd.get(), partial_))
      throw Error(ErrorCode::io, "is in use by another run").at(partial_.native());
    if (!names_file(partial_, fd.get())) continue;
    // An empty one holds nothing that anybody could miss; it may be a rival's that was created and not yet locked.
    const bool is_stale = ::fstat(fd.get(), &info) == 0 && info.st_size > 0;
    if (is_stale && options.resume) {
      file_ = WritableFile(std::move(fd), partial_);
      return;
    }
    if (is_stale && !options.replace_partial) {
      throw Error(ErrorCode::invalid, "was left by a run that did not finish").at(partial_.native());
    }
    if (is_stale && retry_interrupted([&] { return ::ftruncate(fd.get(), 0); }) != 0) {
      throw Error(ErrorCode::io, "cannot be emptied: {}", system_message(errno)).at(partial_.native());
    }
    file_ = WritableFile(std::move(fd), partial_);
    return;
  }
}

OutputFile::OutputFile(OutputFile&& other) noexcept = default;

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    abandon();
    file_ = std::move(other.file_);
    target_ = std::move(other.target_);
    partial_ = std::move(other.partial_);
    overwrite_ = other.overwrite_;
    on_failure_ = other.on_failure_;
  }
  return *this;
}

OutputFile::~OutputFile() { abandon(); }

void OutputFile::abandon() noexcept {
  if (!file_) return;
  // Unlinked while the lock is held, so that nobody else's partial can have taken the name.
  if (on_failure_ == OnFailure::remove && names_file(partial_, file_.fd())) ::unlink(partial_.c_str());
  file_.close();
}

void OutputFile::commit() {
  file_.flush();
  move_into_place();
  file_.close();
  flush_folder(target_.parent_path());
}

void OutputFile::move_into_place() {
  if (!overwrite_) {
    // Only the kernel can look and rename in one step.
    if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) == 0) return;
    if (errno != EINVAL && errno != ENOSYS) {
      if (errno == EEXIST) throw Error(ErrorCode::invalid, "exists already").at(target_.native());
      throw Error(ErrorCode::io, "cannot be put in place: {}", system_message(errno)).at(target_.native());
    }
    check_target(target_, overwrite_);
  }
  if (::rename(partial_.c_str(), target_.c_str()) != 0) {
    throw Error(ErrorCode::io, "cannot be put in place: {}", system_message(errno)).at(target_.native());
  }
}

}  // namespace regauge
