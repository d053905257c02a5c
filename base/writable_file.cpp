#include "base/writable_file.h"

#include <algorithm>
#include <limits>
#include <optional>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/posix.h"

namespace regauge {
namespace {

// Linux moves at most 2,147,479,552 bytes in one call (man 2 write).
constexpr std::size_t kMaxWriteBytes = std::size_t{1} << 30;
// What is put in runs of this length goes to the disk as it comes. Strips of a matrix do not: their gaps are filled soon,
// and a page that is half full would go twice. They follow at a distance, every so many bytes.
constexpr std::uint64_t kLongRun = 1 << 20;
constexpr std::uint64_t kFlushStep = 16 << 20;
constexpr std::uint64_t kFlushLag = 64 << 20;

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

}  // namespace

void WritableFile::preallocate(std::uint64_t bytes) {
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    throw write_error(fd_.get(), path_, bytes, EFBIG);
  }
  struct stat info{};
  if (::fstat(fd_.get(), &info) != 0) throw write_error(fd_.get(), path_, bytes, errno);
  const std::uint64_t held =
      static_cast<std::uint64_t>(info.st_blocks) * 512;  // st_blocks counts 512 bytes (man 3 stat)
  // Asked first: a reservation that fails may fill the disk for a while before it does, and some cannot fail at all.
  if (const auto available = free_bytes(fd_.get()); available && bytes > held && bytes - held > *available) {
    throw write_error(fd_.get(), path_, bytes, ENOSPC);
  }
  const auto size = static_cast<off_t>(bytes);
  // fallocate and not posix_fallocate: where the file system cannot reserve, glibc would write every block instead.
  if (bytes > 0 && retry_interrupted([&] { return ::fallocate(fd_.get(), 0, 0, size); }) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS) {
    const int error = errno;
    // Gives back what a failed reservation has taken, so that the bytes reported as free are true.
    if (::ftruncate(fd_.get(), info.st_size) != 0) throw write_error(fd_.get(), path_, bytes, errno);
    throw write_error(fd_.get(), path_, bytes, error);
  }
  if (retry_interrupted([&] { return ::ftruncate(fd_.get(), size); }) != 0) {
    throw write_error(fd_.get(), path_, bytes, errno);
  }
}

void WritableFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  constexpr auto kMaxOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (offset > kMaxOffset || bytes.size() > kMaxOffset - offset) {
    throw write_error(fd_.get(), path_, bytes.size(), EFBIG).offset(offset);
  }
  const std::uint64_t begin = offset;
  while (!bytes.empty()) {
    const ssize_t put = retry_interrupted([&] {
      return ::pwrite(fd_.get(), bytes.data(), std::min(bytes.size(), kMaxWriteBytes), static_cast<off_t>(offset));
    });
    if (put <= 0) throw write_error(fd_.get(), path_, bytes.size(), put < 0 ? errno : ENOSPC).offset(offset);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  begin_flush(begin, offset - begin);
}

void WritableFile::begin_flush(std::uint64_t offset, std::uint64_t count) noexcept {
  // Does not wait for the disk and is only a matter of speed: flush() is what tells whether it went well.
  const auto begin = [this](std::uint64_t from, std::uint64_t bytes) {
    static_cast<void>(
        ::sync_file_range(fd_.get(), static_cast<off_t>(from), static_cast<off_t>(bytes), SYNC_FILE_RANGE_WRITE));
  };
  if (count >= kLongRun) return begin(offset, count);
  if (waiting_->fetch_add(count, std::memory_order_relaxed) + count < kFlushStep) return;
  waiting_->store(0, std::memory_order_relaxed);
  if (offset > kFlushLag) begin(0, offset - kFlushLag);
}

void WritableFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = retry_interrupted([&] {
      return ::pread(fd_.get(), out.data(), std::min(out.size(), kMaxWriteBytes), static_cast<off_t>(offset));
    });
    if (got <= 0) {
      throw Error(ErrorCode::io, "cannot be read back: {}", got < 0 ? system_message(errno) : "it ends here")
          .at(path_.native())
          .offset(offset);
    }
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

void WritableFile::flush() {
  if (retry_interrupted([&] { return ::fsync(fd_.get()); }) != 0) {
    throw Error(ErrorCode::io, "cannot be flushed to disk: {}", system_message(errno)).at(path_.native());
  }
}

}  // namespace regauge
