#include "formats/positional_file.h"

#include <utility>

#include "base/error.h"

namespace regauge {

PositionalFile::PositionalFile(WritableFile& file, FileLayout layout) : file_(&file), layout_(std::move(layout)) {
  for (const Extent& extent : layout_.extents) expected_ += extent.bytes;
  file_->preallocate(file_bytes());
}

std::uint64_t PositionalFile::place(std::size_t index, std::uint64_t offset, std::uint64_t bytes) const {
  const Extent& extent = layout_.extents.at(index);
  if (offset > extent.bytes || bytes > extent.bytes - offset) {
    throw Error(ErrorCode::internal, "{} bytes at byte {} of an array of {}", bytes, offset, extent.bytes)
        .at(file_->path().native());
  }
  return layout_.header.size() + extent.offset + offset;
}

void PositionalFile::put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
  file_->write_at(place(index, offset, bytes.size()), bytes);
  written_ += bytes.size();
}

void PositionalFile::read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const {
  file_->read_at(place(index, offset, out.size()), out);
}

void PositionalFile::seal(bool resumes) {
  if (written_ != expected_ && !resumes) {
    throw Error(ErrorCode::internal, "{} of {} data bytes were written", written_.load(), expected_)
        .at(file_->path().native());
  }
  file_->write_at(0, layout_.header);
  file_->flush();
}

}  // namespace regauge
