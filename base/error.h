#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace regauge {

enum class ErrorCode {
  io,           ///< the operating system said no: open, read, write, rename, disk full
  malformed,    ///< the bytes break the rules of their format
  unsupported,  ///< legal, but something we do not read or write
  invalid,      ///< an argument or option makes no sense
  refused,      ///< the loss it would take was not permitted
  not_found,    ///< a named file, tensor or key is absent
  internal,     ///< a bug of ours
};

std::string_view name(ErrorCode code);

/// The one exception of this library. Carries what went wrong and where: file, tensor (or key) and byte offset, each
/// filled in by whichever layer knows it; the innermost value wins.
class Error : public std::exception {
 public:
  template <typename... Args>
  Error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args)
      : code_(code), message_(fmt::format(format, std::forward<Args>(args)...)) {
    compose();
  }

  Error& at(std::string_view file) &;
  Error& tensor(std::string_view name) &;
  Error& offset(std::uint64_t bytes) &;
  Error&& at(std::string_view file) && { return std::move(at(file)); }
  Error&& tensor(std::string_view name) && { return std::move(tensor(name)); }
  Error&& offset(std::uint64_t bytes) && { return std::move(offset(bytes)); }

  ErrorCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& file() const noexcept { return file_; }
  const std::string& tensor_name() const noexcept { return tensor_; }
  std::optional<std::uint64_t> byte_offset() const noexcept { return offset_; }

  /// "file: tensor 'name': message (at byte N)", leaving out what is not known.
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  void compose();

  ErrorCode code_;
  std::string message_;
  std::string file_;
  std::string tensor_;
  std::optional<std::uint64_t> offset_;
  std::string what_;
};

}  // namespace regauge
