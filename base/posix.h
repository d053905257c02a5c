#pragma once

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include <sys/stat.h>

namespace regauge {

// What the files that call the system directly share.

inline std::string system_message(int error) { return std::generic_category().message(error); }

/// Calls again for as long as a signal interrupts.
template <typename Call>
auto retry_interrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

inline bool is_same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// True when `path` itself, no link followed, still names what is behind `fd`.
inline bool names_file(const std::filesystem::path& path, int fd) noexcept {
  struct stat by_path{};
  struct stat by_fd{};
  return ::lstat(path.c_str(), &by_path) == 0 && ::fstat(fd, &by_fd) == 0 && is_same_file(by_path, by_fd);
}

/// Locks a file or directory for this run alone until it is closed. False when another run holds the lock; true also where
/// the file system knows no locks (some network mounts): no protection is all there is to have then. Throws Error{io}.
bool lock_exclusively(int fd, const std::filesystem::path& path);

/// Makes the entries of `folder` durable: names created and renamed. Some file systems cannot and say EINVAL; there is
/// nothing to do then. Throws Error{io}.
void flush_folder(const std::filesystem::path& folder);

}  // namespace regauge
