#include "formats/positional_writer.h"

#include <utility>

#include "base/error.h"

namespace regauge {

PositionalWriter::PositionalWriter(const std::filesystem::path& target, const WriteOptions& options)
    : output_(OutputFile::create(target, {.overwrite = options.overwrite,
                                          .replace_partial = options.replace_partial,
                                          .resume = options.resume,
                                          .on_failure = options.keep_partial ? OnFailure::keep : OnFailure::remove})),
      resumes_(options.resume) {}

void PositionalWriter::start(std::vector<std::byte> header, std::vector<Extent> extents, std::uint64_t data_bytes) {
  header_ = std::move(header);
  extents_ = std::move(extents);
  data_bytes_ = data_bytes;
  for (const Extent& extent : extents_) expected_ += extent.bytes;
  output_.preallocate(file_bytes());
}

std::uint64_t PositionalWriter::place(std::size_t index, std::uint64_t offset, std::uint64_t bytes) const {
  const Extent& extent = extents_.at(index);
  if (offset > extent.bytes || bytes > extent.bytes - offset) {
    throw Error(ErrorCode::internal, "{} bytes at byte {} of an array of {}", bytes, offset, extent.bytes)
        .at(output_.target().native());
  }
  return header_.size() + extent.offset + offset;
}

void PositionalWriter::put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
  output_.write_at(place(index, offset, bytes.size()), bytes);
  written_ += bytes.size();
}

void PositionalWriter::read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const {
  output_.read_at(place(index, offset, out.size()), out);
}

void PositionalWriter::seal() {
  if (written_ != expected_ && !resumes_) {
    throw Error(ErrorCode::internal, "{} of {} data bytes were written", written_.load(), expected_)
        .at(output_.target().native());
  }
  output_.write_at(0, header_);
  output_.flush();
}

}  // namespace regauge
