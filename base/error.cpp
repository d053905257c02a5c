#include "base/error.h"

namespace regauge {

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::io: return "io";
    case ErrorCode::malformed: return "malformed";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::invalid: return "invalid";
    case ErrorCode::refused: return "refused";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::internal: return "internal";
  }
  return "unknown";
}

Error& Error::at(std::string_view file) & {
  if (file_.empty()) {
    file_ = file;
    compose();
  }
  return *this;
}

Error& Error::tensor(std::string_view name) & {
  if (tensor_.empty()) {
    tensor_ = name;
    compose();
  }
  return *this;
}

Error& Error::offset(std::uint64_t bytes) & {
  if (!offset_) {
    offset_ = bytes;
    compose();
  }
  return *this;
}

void Error::compose() {
  what_.clear();
  if (!file_.empty()) what_ += file_ + ": ";
  if (!tensor_.empty()) what_ += "tensor '" + tensor_ + "': ";
  what_ += message_;
  if (offset_) what_ += fmt::format(" (at byte {})", *offset_);
}

}  // namespace regauge
