#include "formats/gguf/cursor.h"

#include <cstring>

namespace regauge::gguf {
namespace {

// One read per 64 KiB: a header with a vocabulary has 10 MB in pieces of 8 bytes.
constexpr std::uint64_t kBufferBytes = std::uint64_t{64} << 10;

}  // namespace

Error FileCursor::fail(std::uint64_t offset, std::string message) const {
  return Error(ErrorCode::malformed, "{}", message).at(file_.path()).offset(offset);
}

void FileCursor::check(std::uint64_t count, std::uint64_t unit, std::string_view what) const {
  if (count > remaining() / unit) {
    throw fail(offset_, fmt::format("{} of {} takes more than the {} bytes that are left", what, count, remaining()));
  }
}

std::string FileCursor::read_text(std::uint64_t length, std::string_view what) {
  check(length, 1, what);
  std::string text(static_cast<std::size_t>(length), '\0');
  read_bytes(std::as_writable_bytes(std::span(text)), what);
  return text;
}

void FileCursor::read_bytes(std::span<std::byte> out, std::string_view what) {
  if (out.size() > remaining()) {
    throw fail(offset_, fmt::format("{} takes {} bytes but only {} are left", what, out.size(), remaining()));
  }
  while (!out.empty()) {
    if (used_ == buffer_.size()) {
      if (out.size() >= kBufferBytes) {
        file_.read_at(offset_, out);
        offset_ += out.size();
        return;
      }
      buffer_.resize(static_cast<std::size_t>(std::min(kBufferBytes, remaining())));
      file_.read_at(offset_, buffer_);
      used_ = 0;
    }
    const std::size_t step = std::min(out.size(), buffer_.size() - used_);
    std::memcpy(out.data(), buffer_.data() + used_, step);
    used_ += step;
    offset_ += step;
    out = out.subspan(step);
  }
}

}  // namespace regauge::gguf
