#include "base/file.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace regauge {
namespace {

// Linux moves at most 2,147,479,552 bytes in one call (man 2 read); asking for less keeps every count positive.
constexpr std::size_t kMaxReadBytes = std::size_t{1} << 30;

std::string system_message(int error) { return std::generic_category().message(error); }

[[noreturn]] void throw_open_error(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) throw Error(ErrorCode::not_found, "no such file").at(path);
  throw Error(ErrorCode::io, "cannot be opened: {}", system_message(error)).at(path);
}

void check_regular(const struct stat& info, const std::string& path) {
  if (S_ISREG(info.st_mode)) return;
  if (S_ISDIR(info.st_mode)) throw Error(ErrorCode::invalid, "is a directory where a file is expected").at(path);
  throw Error(ErrorCode::invalid, "is not a regular file").at(path);
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int FileDescriptor::release() noexcept { return std::exchange(fd_, -1); }

void FileDescriptor::reset() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

File File::open(const std::filesystem::path& path) {
  File file;
  file.path_ = path.native();
  struct stat info{};
  // Looked at before opening, because opening a device may already do something (rewind a tape, drop a line); and again
  // afterwards, because the path may have changed its meaning. O_NONBLOCK keeps a FIFO without a writer from hanging us.
  if (::stat(path.c_str(), &info) != 0) throw_open_error(file.path_, errno);
  check_regular(info, file.path_);
  do {
    file.fd_ = FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  } while (!file.fd_ && errno == EINTR);
  if (!file.fd_) throw_open_error(file.path_, errno);
  if (::fstat(file.fd_.get(), &info) != 0) throw_open_error(file.path_, errno);
  check_regular(info, file.path_);
  file.size_ = static_cast<std::uint64_t>(info.st_size);
  file.modified_ns_ = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  return file;
}

File File::virtual_file(std::string path, std::uint64_t size, std::int64_t modified_ns, Reader reader) {
  File file;
  file.reader_ = std::move(reader);
  file.path_ = std::move(path);
  file.size_ = size;
  file.modified_ns_ = modified_ns;
  return file;
}

void File::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  const auto ends_early = [this](std::uint64_t at) {
    return Error(ErrorCode::io, "file is shorter than its header promised").at(path_).offset(at);
  };
  // size_ came from an off_t, so offsets below it are representable; a file that grew since is read no further.
  if (offset > size_ || out.size() > size_ - offset) throw ends_early(size_);
  if (reader_) return reader_(offset, out);
  while (!out.empty()) {
    const ssize_t got = ::pread(fd_.get(), out.data(), std::min(out.size(), kMaxReadBytes), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw Error(ErrorCode::io, "cannot be read: {}", system_message(errno)).at(path_).offset(offset);
    }
    if (got == 0) throw ends_early(offset);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

std::vector<std::byte> File::read_range(std::uint64_t offset, std::uint64_t count) const {
  if (offset > size_ || count > size_ - offset) {
    throw Error(ErrorCode::io, "file is shorter than its header promised: {} bytes wanted, {} there", count,
                offset > size_ ? 0 : size_ - offset)
        .at(path_)
        .offset(offset);
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  read_at(offset, bytes);
  return bytes;
}

std::string read_text(const File& file, std::uint64_t max_bytes) {
  if (file.size() > max_bytes) {
    throw Error(ErrorCode::malformed, "has {} bytes, more than the {} that such a file may have", file.size(),
                max_bytes)
        .at(file.path());
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_text(File::open(path), max_bytes);
}

}  // namespace regauge
