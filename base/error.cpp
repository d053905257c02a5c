#include "base/error.h"

#include "base/text.h"

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
  // Names come from files and may hold anything; the message may quote them, and its own line feeds are ours.
  if (!file_.empty()) what_ += printable(file_) + ": ";
  if (!tensor_.empty()) what_ += "tensor '" + printable(tensor_) + "': ";
  what_ += printable(message_, LineFeeds::keep);
  if (offset_) what_ += fmt::format(" (at byte {})", *offset_);
}

}  // namespace regauge
