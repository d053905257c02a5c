#include "base/output_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"

namespace regauge {
namespace {

// Linux moves at most 2,147,479,552 bytes in one call (man 2 write).
constexpr std::size_t kMaxWriteBytes = std::size_t{1} << 30;

std::string system_message(int error) { return std::generic_category().message(error); }

template <typename Call>
auto retry_interrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// Bytes that this user may still write to the file system of `fd`, or nothing where it does not keep count.
std::optional<std::uint64_t> free_bytes(int fd) {
  struct statvfs info{};
  if (::fstatvfs(fd, &info) != 0 || info.f_blocks == 0) return std::nullopt;
  return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

/// The error for a write or reservation of `needed` bytes that failed with `error`.
Error write_error(int fd, const std::filesystem::path& path, std::uint64_t needed, int error) {
  if (error == ENOSPC || error == EDQUOT) {
    if (const auto available = free_bytes(fd)) {
      return Error(ErrorCode::io, "{}: {} bytes are needed and {} are free", system_message(error), needed, *available)
          .at(path.native());
    }
  }
  return Error(ErrorCode::io, "cannot write {} bytes: {}", needed, system_message(error)).at(path.native());
}

bool is_same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

/// True when `path` still names the file behind `fd`.
bool names_file(const std::filesystem::path& path, int fd) noexcept {
  struct stat by_path{};
  struct stat by_fd{};
  return ::lstat(path.c_str(), &by_path) == 0 && ::fstat(fd, &by_fd) == 0 && is_same_file(by_path, by_fd);
}

void check_target(const std::filesystem::path& target, bool overwrite) {
  struct stat info{};
  if (::lstat(target.c_str(), &info) != 0) return;
  if (!S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode)) {
    throw Error(ErrorCode::invalid, "exists and is not a regular file").at(target.native());
  }
  if (!overwrite) throw Error(ErrorCode::invalid, "exists already").at(target.native());
}

/// Makes a rename in `folder` durable. Some file systems cannot flush a folder and say EINVAL; there is nothing to do then.
void flush_folder(const std::filesystem::path& folder) {
  const auto& path = folder.empty() ? std::filesystem::path(".") : folder;
  const FileDescriptor fd(retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!fd) return;  // a folder may be writable and not readable
  if (retry_interrupted([&] { return ::fsync(fd.get()); }) != 0 && errno != EINVAL) {
    throw Error(ErrorCode::io, "cannot be flushed to disk: {}", system_message(errno)).at(path.native());
  }
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
    if (retry_interrupted([&] { return ::flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno == EWOULDBLOCK) throw Error(ErrorCode::io, "is in use by another run").at(partial_.native());
      // A file system without locks (some network mounts) gives no protection, and that is all there is to have.
      if (errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) {
        throw Error(ErrorCode::io, "cannot be locked: {}", system_message(errno)).at(partial_.native());
      }
    }
    if (!names_file(partial_, fd.get())) continue;
    // An empty one holds nothing that anybody could miss; it may be a rival's that was created and not yet locked.
    const bool is_stale = ::fstat(fd.get(), &info) == 0 && info.st_size > 0;
    if (is_stale && options.resume) {
      fd_ = std::move(fd);
      return;
    }
    if (is_stale && !options.replace_partial) {
      throw Error(ErrorCode::invalid, "was left by a run that did not finish").at(partial_.native());
    }
    if (is_stale && retry_interrupted([&] { return ::ftruncate(fd.get(), 0); }) != 0) {
      throw Error(ErrorCode::io, "cannot be emptied: {}", system_message(errno)).at(partial_.native());
    }
    fd_ = std::move(fd);
    return;
  }
}

OutputFile::OutputFile(OutputFile&& other) noexcept = default;

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    abandon();
    fd_ = std::move(other.fd_);
    target_ = std::move(other.target_);
    partial_ = std::move(other.partial_);
    overwrite_ = other.overwrite_;
    on_failure_ = other.on_failure_;
  }
  return *this;
}

OutputFile::~OutputFile() { abandon(); }

void OutputFile::abandon() noexcept {
  if (!fd_) return;
  // Unlinked while the lock is held, so that nobody else's partial can have taken the name.
  if (on_failure_ == OnFailure::remove && names_file(partial_, fd_.get())) ::unlink(partial_.c_str());
  fd_.reset();
}

void OutputFile::preallocate(std::uint64_t bytes) {
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    throw write_error(fd_.get(), partial_, bytes, EFBIG);
  }
  struct stat info{};
  if (::fstat(fd_.get(), &info) != 0) throw write_error(fd_.get(), partial_, bytes, errno);
  const std::uint64_t held =
      static_cast<std::uint64_t>(info.st_blocks) * 512;  // st_blocks counts 512 bytes (man 3 stat)
  // Asked first: a reservation that fails may fill the disk for a while before it does, and some cannot fail at all.
  if (const auto available = free_bytes(fd_.get()); available && bytes > held && bytes - held > *available) {
    throw write_error(fd_.get(), partial_, bytes, ENOSPC);
  }
  const auto size = static_cast<off_t>(bytes);
  // fallocate and not posix_fallocate: where the file system cannot reserve, glibc would write every block instead.
  if (bytes > 0 && retry_interrupted([&] { return ::fallocate(fd_.get(), 0, 0, size); }) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS) {
    const int error = errno;
    // Gives back what a failed reservation has taken, so that the bytes reported as free are true.
    if (::ftruncate(fd_.get(), info.st_size) != 0) throw write_error(fd_.get(), partial_, bytes, errno);
    throw write_error(fd_.get(), partial_, bytes, error);
  }
  if (retry_interrupted([&] { return ::ftruncate(fd_.get(), size); }) != 0) {
    throw write_error(fd_.get(), partial_, bytes, errno);
  }
}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  constexpr auto kMaxOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (offset > kMaxOffset || bytes.size() > kMaxOffset - offset) {
    throw write_error(fd_.get(), partial_, bytes.size(), EFBIG).offset(offset);
  }
  while (!bytes.empty()) {
    const ssize_t put = retry_interrupted([&] {
      return ::pwrite(fd_.get(), bytes.data(), std::min(bytes.size(), kMaxWriteBytes), static_cast<off_t>(offset));
    });
    if (put <= 0) throw write_error(fd_.get(), partial_, bytes.size(), put < 0 ? errno : ENOSPC).offset(offset);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
}

void OutputFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = retry_interrupted([&] {
      return ::pread(fd_.get(), out.data(), std::min(out.size(), kMaxWriteBytes), static_cast<off_t>(offset));
    });
    if (got <= 0) {
      throw Error(ErrorCode::io, "cannot be read back: {}", got < 0 ? system_message(errno) : "it ends here")
          .at(partial_.native())
          .offset(offset);
    }
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

void OutputFile::flush() {
  if (retry_interrupted([&] { return ::fsync(fd_.get()); }) != 0) {
    throw Error(ErrorCode::io, "cannot be flushed to disk: {}", system_message(errno)).at(partial_.native());
  }
}

void OutputFile::commit() {
  flush();
  move_into_place();
  fd_.reset();
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
