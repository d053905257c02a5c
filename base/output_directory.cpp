#include "base/output_directory.h"

#include <algorithm>
#include <cstdio>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/posix.h"
#include "base/text.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr int kFileFlags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

FileDescriptor open_at(int folder, const std::string& name, int flags) {
  return FileDescriptor(retry_interrupted([&] { return ::openat(folder, name.c_str(), flags, 0666); }));
}

/// "a/b/c" as {"a/b", "c"}; the folder is empty for a file at the top.
std::pair<std::string, std::string> split_name(const std::string& name) {
  const auto slash = name.rfind('/');
  if (slash == std::string::npos) return {std::string(), name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

Error system_error(const fs::path& path, std::string_view what, int error) {
  return Error(ErrorCode::io, "cannot be {}: {}", what, system_message(error)).at(path.native());
}

bool holds_nothing(const fs::path& directory) {
  std::error_code error;
  const bool empty = fs::is_empty(directory, error);
  if (error) throw Error(ErrorCode::io, "cannot be listed: {}", error.message()).at(directory.native());
  return empty;
}

void remove_content(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    entries.push_back(at->path());
  }
  for (const fs::path& entry : entries) {
    if (!error) fs::remove_all(entry, error);
  }
  if (error) throw Error(ErrorCode::io, "cannot be emptied: {}", error.message()).at(directory.native());
}

/// Removes a directory that a new one has taken the place of.
void remove_replaced(const fs::path& replaced, const fs::path& target) {
  std::error_code error;
  fs::remove_all(replaced, error);
  if (!error) return;
  throw Error(ErrorCode::io, "is complete, but what it replaces cannot be removed from '{}': {}",
              excerpt(replaced.native()), error.message())
      .at(target.native());
}

/// Whether a rename failed because the file system does not know its flags.
bool is_unknown_flag(int error) { return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP; }

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() || !path.has_relative_path() ? path : path.parent_path();
}

}  // namespace

const char* OutputDirectory::name_fault(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.front() == '/') return "is an absolute path";
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return "holds a control character";
  }
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view step = name.substr(begin, end - begin);
    if (step == "..") return "leads out of the directory";
    if (step.empty() || step == ".") return "has a step that goes nowhere";
    begin = end + 1;
  }
  return nullptr;
}

OutputDirectory OutputDirectory::create(const fs::path& target, const OutputOptions& options, std::string_view mark) {
  OutputDirectory output;
  output.target_ = without_trailing_slash(target);
  if (!output.target_.has_filename() || output.target_.filename() == "." || output.target_.filename() == "..") {
    throw Error(ErrorCode::invalid, "is not the name of a directory to make").at(target.native());
  }
  output.partial_ = OutputFile::partial_path(output.target_);
  output.mark_ = mark;
  output.overwrite_ = options.overwrite;
  output.resumes_ = options.resume;
  output.on_failure_ = options.on_failure;
  output.check_target();
  output.lock_partial(options);
  // Another run may have finished the target between the first look and the lock.
  output.check_target();
  return output;
}

void OutputDirectory::check_target() const {
  struct stat info{};
  if (::lstat(target_.c_str(), &info) != 0) return;
  if (S_ISLNK(info.st_mode)) {
    throw Error(ErrorCode::invalid, "is a symbolic link; name the directory itself").at(target_.native());
  }
  if (!S_ISDIR(info.st_mode)) throw Error(ErrorCode::invalid, "exists and is not a directory").at(target_.native());
  if (!overwrite_) throw Error(ErrorCode::invalid, "exists already").at(target_.native());
  check_replaceable(target_);
}

void OutputDirectory::check_replaceable(const fs::path& directory) const {
  std::error_code error;
  bool is_empty = true;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == mark_) return;
    is_empty = false;
  }
  if (error) throw Error(ErrorCode::io, "cannot be listed: {}", error.message()).at(directory.native());
  if (is_empty) return;
  throw Error(ErrorCode::invalid, "is not replaced: it is not empty and holds no {} file, so it is no checkpoint",
              mark_)
      .at(directory.native());
}

void OutputDirectory::lock_partial(const OutputOptions& options) {
  // As in OutputFile: the path may change hands between opening and locking, and nothing is touched before the look at it.
  for (;;) {
    if (::mkdir(partial_.c_str(), 0777) != 0 && errno != EEXIST) {
      if (errno == ENOENT || errno == ENOTDIR) {
        throw Error(ErrorCode::not_found, "there is no such folder to write to").at(target_.native());
      }
      throw system_error(partial_, "created", errno);
    }
    FileDescriptor fd = open_at(AT_FDCWD, partial_.native(), kFolderFlags);
    if (!fd && errno == ENOENT) continue;
    if (!fd && (errno == ENOTDIR || errno == ELOOP)) {
      throw Error(ErrorCode::invalid, "exists and is not a directory").at(partial_.native());
    }
    if (!fd) throw system_error(partial_, "opened", errno);
    if (!lock_exclusively(fd.get(), partial_)) {
      throw Error(ErrorCode::io, "is in use by another run").at(partial_.native());
    }
    if (!names_file(partial_, fd.get())) continue;
    // An empty one holds nothing that anybody could miss.
    if (!holds_nothing(partial_) && !options.resume) {
      if (!options.replace_partial) {
        throw Error(ErrorCode::invalid, "was left by a run that did not finish").at(partial_.native());
      }
      check_replaceable(partial_);
      remove_content(partial_);
    }
    fd_ = std::move(fd);
    return;
  }
}

FileDescriptor OutputDirectory::open_folder(std::string_view folder) const {
  FileDescriptor at = open_at(fd_.get(), ".", kFolderFlags);
  for (std::size_t begin = 0; at && begin < folder.size();) {
    const std::size_t end = std::min(folder.find('/', begin), folder.size());
    at = open_at(at.get(), std::string(folder.substr(begin, end - begin)), kFolderFlags);
    begin = end + 1;
  }
  return at;
}

void OutputDirectory::make_folder(const std::string& folder) {
  if (folder.empty() || folders_.contains(folder)) return;
  const auto [around, name] = split_name(folder);
  make_folder(around);
  const FileDescriptor at = open_folder(around);
  if (!at || (::mkdirat(at.get(), name.c_str(), 0777) != 0 && errno != EEXIST)) {
    throw system_error(partial_ / folder, "created", errno);
  }
  // What is there already may be a link that leads out, or a file.
  if (!open_at(at.get(), name, kFolderFlags)) {
    throw Error(ErrorCode::invalid, "is in the way: it is no folder").at((partial_ / folder).native());
  }
  folders_.insert(folder);
}

void OutputDirectory::check_name(const std::string& name) const {
  if (const char* fault = name_fault(name)) {
    throw Error(ErrorCode::invalid, "the file name '{}' {}", excerpt(name), fault).at(target_.native());
  }
  if (files_.contains(name)) {
    throw Error(ErrorCode::invalid, "two files have the name '{}'", excerpt(name)).at(target_.native());
  }
}

WritableFile OutputDirectory::make(const std::string& name) {
  check_name(name);
  const auto [folder, leaf] = split_name(name);
  make_folder(folder);
  const FileDescriptor at = open_folder(folder);
  FileDescriptor fd;
  if (at) fd = open_at(at.get(), leaf, kFileFlags | O_CREAT | (resumes_ ? 0 : O_EXCL));
  struct stat info{};
  if (!fd && (errno == EEXIST || errno == EISDIR || errno == ELOOP || errno == ENXIO)) {
    throw Error(ErrorCode::invalid, "is in the way of a file of the output").at((partial_ / name).native());
  }
  if (!fd || ::fstat(fd.get(), &info) != 0) throw system_error(partial_ / name, "created", errno);
  if (!S_ISREG(info.st_mode)) {
    throw Error(ErrorCode::invalid, "is in the way: it is no regular file").at((partial_ / name).native());
  }
  files_.insert(name);
  return {std::move(fd), partial_ / name};
}

bool OutputDirectory::link(const std::string& name, const std::filesystem::path& source) {
  check_name(name);
  const auto [folder, leaf] = split_name(name);
  make_folder(folder);
  const FileDescriptor at = open_folder(folder);
  if (!at) throw system_error(partial_ / name, "created", errno);
  // What an earlier run has linked or copied is made again: either costs less than finding out which it was.
  if (resumes_) ::unlinkat(at.get(), std::string(leaf).c_str(), 0);
  if (::linkat(AT_FDCWD, source.c_str(), at.get(), std::string(leaf).c_str(), AT_SYMLINK_FOLLOW) != 0) {
    if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == ENOTSUP || errno == EACCES) return false;
    throw system_error(partial_ / name, "linked", errno);
  }
  linked_.insert(name);
  files_.insert(name);
  return true;
}

WritableFile OutputDirectory::open(const std::string& name) const {
  if (!files_.contains(name)) {
    throw Error(ErrorCode::internal, "the file '{}' was not made", excerpt(name)).at(partial_.native());
  }
  const auto [folder, leaf] = split_name(name);
  const FileDescriptor at = open_folder(folder);
  FileDescriptor fd;
  if (at) fd = open_at(at.get(), leaf, kFileFlags);
  if (!fd) throw system_error(partial_ / name, "opened", errno);
  return {std::move(fd), partial_ / name};
}

OutputDirectory& OutputDirectory::operator=(OutputDirectory&& other) noexcept {
  if (this != &other) {
    abandon();
    fd_ = std::move(other.fd_);
    target_ = std::move(other.target_);
    partial_ = std::move(other.partial_);
    mark_ = std::move(other.mark_);
    overwrite_ = other.overwrite_;
    resumes_ = other.resumes_;
    on_failure_ = other.on_failure_;
    files_ = std::move(other.files_);
    linked_ = std::move(other.linked_);
    folders_ = std::move(other.folders_);
  }
  return *this;
}

OutputDirectory::~OutputDirectory() { abandon(); }

void OutputDirectory::abandon() noexcept {
  if (!fd_) return;
  try {
    if (on_failure_ == OnFailure::remove && names_file(partial_, fd_.get())) {
      const auto remove = [this](const std::string& name, int flags) {
        const auto [folder, leaf] = split_name(name);
        if (const FileDescriptor at = open_folder(folder)) ::unlinkat(at.get(), leaf.c_str(), flags);
      };
      for (const std::string& name : files_) remove(name, 0);
      std::for_each(folders_.rbegin(), folders_.rend(), [&](const std::string& name) { remove(name, AT_REMOVEDIR); });
      // While the lock is held, so that nobody else's partial can have taken the name. Fails where strangers are left.
      ::rmdir(partial_.c_str());
    }
  } catch (const std::exception&) {
    // Out of memory: the partial stays, and the next run says so.
  }
  fd_.reset();
}

void OutputDirectory::check_strangers() const {
  std::error_code error;
  for (fs::recursive_directory_iterator at(partial_, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().lexically_relative(partial_).native();
    std::error_code ignored;
    const bool is_folder = at->is_directory(ignored) && !at->is_symlink(ignored);
    if ((is_folder ? folders_ : files_).contains(name)) continue;
    throw Error(ErrorCode::invalid, "is in the output and does not belong to it").at(at->path().native());
  }
  if (error) throw Error(ErrorCode::io, "cannot be listed: {}", error.message()).at(partial_.native());
}

void OutputDirectory::flush() const {
  for (const std::string& name : files_) {
    if (!linked_.contains(name)) open(name).flush();
  }
  for (const std::string& folder : folders_) flush_folder(partial_ / folder);
  flush_folder(partial_);
}

void OutputDirectory::commit() {
  check_strangers();
  flush();
  if (!names_file(partial_, fd_.get())) {
    throw Error(ErrorCode::io, "was moved away while it was written").at(partial_.native());
  }
  move_into_place();
  fd_.reset();
  flush_folder(target_.parent_path());
}

void OutputDirectory::move_into_place() const {
  struct stat info{};
  if (overwrite_ && ::lstat(target_.c_str(), &info) == 0) return replace_target();
  // Only the kernel can look and rename in one step.
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST) throw Error(ErrorCode::invalid, "exists already").at(target_.native());
  if (!is_unknown_flag(errno)) throw system_error(target_, "put in place", errno);
  check_target();
  if (::rename(partial_.c_str(), target_.c_str()) != 0) throw system_error(target_, "put in place", errno);
}

void OutputDirectory::replace_target() const {
  check_target();
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
    return remove_replaced(partial_, target_);
  }
  if (!is_unknown_flag(errno)) throw system_error(target_, "put in place", errno);
  // Two steps where the file system cannot exchange: for a moment nothing is at the target, and a crash then leaves the old
  // directory under the name below.
  fs::path replaced = target_;
  replaced += ".replaced";
  struct stat info{};
  if (::lstat(replaced.c_str(), &info) == 0) throw Error(ErrorCode::invalid, "is in the way").at(replaced.native());
  if (::rename(target_.c_str(), replaced.c_str()) != 0) throw system_error(target_, "put aside", errno);
  if (::rename(partial_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    if (::rename(replaced.c_str(), target_.c_str()) != 0) throw system_error(replaced, "put back", errno);
    throw system_error(target_, "put in place", error);
  }
  remove_replaced(replaced, target_);
}

}  // namespace regauge
