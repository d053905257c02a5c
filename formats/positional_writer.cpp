#include "formats/positional_writer.h"

#include <utility>

#include "base/error.h"

namespace regauge {

OutputFile PositionalWriter::create_output(const std::filesystem::path& target, const WriteOptions& options) {
  return OutputFile::create(target, {.overwrite = options.overwrite, .replace_partial = options.replace_partial});
}

void PositionalWriter::start(std::vector<std::byte> header, std::vector<Extent> extents, std::uint64_t data_bytes) {
  header_ = std::move(header);
  extents_ = std::move(extents);
  data_bytes_ = data_bytes;
  for (const Extent& extent : extents_) expected_ += extent.bytes;
  output_.preallocate(file_bytes());
}

void PositionalWriter::put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
  const Extent& extent = extents_.at(index);
  if (offset > extent.bytes || bytes.size() > extent.bytes - offset) {
    throw Error(ErrorCode::internal, "{} bytes put at byte {} of an array of {}", bytes.size(), offset, extent.bytes)
        .at(output_.target().native());
  }
  output_.write_at(header_.size() + extent.offset + offset, bytes);
  written_ += bytes.size();
}

void PositionalWriter::finish() {
  if (written_ != expected_) {
    throw Error(ErrorCode::internal, "{} of {} data bytes were written", written_.load(), expected_)
        .at(output_.target().native());
  }
  output_.write_at(0, header_);
  output_.commit();
}

}  // namespace regauge
