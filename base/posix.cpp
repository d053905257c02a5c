#include "base/posix.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace regauge {

bool lock_exclusively(int fd, const std::filesystem::path& path) {
  if (retry_interrupted([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  if (errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) {
    throw Error(ErrorCode::io, "cannot be locked: {}", system_message(errno)).at(path.native());
  }
  return true;
}

void flush_folder(const std::filesystem::path& folder) {
  const auto& path = folder.empty() ? std::filesystem::path(".") : folder;
  const FileDescriptor fd(retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!fd) return;  // a folder may be writable and not readable
  if (retry_interrupted([&] { return ::fsync(fd.get()); }) != 0 && errno != EINVAL) {
    throw Error(ErrorCode::io, "cannot be flushed to disk: {}", system_message(errno)).at(path.native());
  }
}

}  // namespace regauge
