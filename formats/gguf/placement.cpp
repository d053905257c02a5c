#include "formats/gguf/placement.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "ir/ggml_type.h"

namespace regauge::gguf {
namespace {

class Placer {
 public:
  Placer(const Header& header, const File& file, FindingTally& tally) : header_(header), file_(file), tally_(tally) {}

  std::vector<StoredArray> place() {
    if (!header_.tensors.empty() && header_.data_offset > file_.size()) {
      throw Error(ErrorCode::malformed, "data section begins at byte {} but the file has {}", header_.data_offset,
                  file_.size())
          .tensor(header_.tensors.front().name)
          .at(file_.path())
          .offset(header_.header_bytes);
    }
    std::vector<StoredArray> arrays;
    arrays.reserve(header_.tensors.size());
    for (std::size_t i = 0; i < header_.tensors.size(); ++i) arrays.push_back(place_one(i));
    check_end();
    return arrays;
  }

 private:
  template <typename... Args>
  Error fail(const TensorInfo& info, fmt::format_string<Args...> format, Args&&... args) const {
    return Error(ErrorCode::malformed, format, std::forward<Args>(args)...)
        .tensor(info.name)
        .at(file_.path())
        .offset(info.at);
  }

  void check_offset(const TensorInfo& info) const {
    if (info.offset % header_.alignment != 0) {
      throw fail(info, "data offset {} is no multiple of the alignment {}", info.offset, header_.alignment);
    }
    if (info.offset < next_) {
      throw fail(info, "data offset {} lies inside or before the tensor listed before it, which ends at {}",
                 info.offset, next_);
    }
    // ggml wants the exact running sum, and what nobody reads may hide anything.
    if (info.offset > next_) throw fail(info, "data offset {} leaves a gap after {}", info.offset, next_);
  }

  /// Bytes of a type that is not known, up to where the next tensor begins or the file ends: padding cannot be told
  /// apart.
  std::uint64_t span_of_unknown(std::size_t i) const {
    const TensorInfo& info = header_.tensors[i];
    const std::uint64_t data_bytes = file_.size() - header_.data_offset;
    const std::uint64_t end = i + 1 < header_.tensors.size() ? header_.tensors[i + 1].offset : data_bytes;
    const bool is_empty = std::ranges::find(info.ne, 0) != info.ne.end();
    if (end > data_bytes || end < info.offset || (end == info.offset) != is_empty) {
      throw fail(info, "type {} is not known, and the offsets do not tell its size", info.type);
    }
    return end - info.offset;
  }

  std::uint64_t bytes_of_known(const TensorInfo& info, const GgmlType& type) const {
    const auto elements = checked_product(info.ne);
    const auto blocks = static_cast<std::uint64_t>(elements.value_or(0) / type.block_elements);
    const auto bytes = checked_mul(blocks, static_cast<std::uint64_t>(type.block_bytes));
    if (!elements || !bytes) throw fail(info, "has too many elements");
    return *bytes;
  }

  StoredArray place_one(std::size_t i) {
    const TensorInfo& info = header_.tensors[i];
    check_offset(info);
    StoredArray array;
    array.name = info.name;
    array.shape.dims.assign(info.ne.rbegin(), info.ne.rend());
    array.offset = header_.data_offset + info.offset;
    if (const GgmlType* type = find_ggml_type(info.type)) {
      array.bytes = bytes_of_known(info, *type);
      if (type->dtype) array.element = *type->dtype;
      if (type->block) array.element = *type->block;
    } else {
      array.bytes = span_of_unknown(i);
      array.element = Opaque{fmt::format("ggml type {}", info.type)};
      tally_.add(Severity::warning, "type-unknown",
                 "tensor of an unknown type is carried, its size taken from the offsets", info.name);
    }
    const auto end = checked_add(array.offset, array.bytes);
    if (!end || *end > file_.size()) {
      throw fail(info, "{} bytes of data from byte {} on, but the file has {}", array.bytes, array.offset,
                 file_.size());
    }
    // Cannot wrap: both ends lie within the file.
    next_ = round_up(info.offset + array.bytes, header_.alignment);
    data_end_ = *end;
    return array;
  }

  void check_end() {
    const std::uint64_t end = header_.tensors.empty() ? header_.header_bytes : data_end_;
    const std::uint64_t padded_end = header_.data_offset + next_;
    if (file_.size() > padded_end) {
      tally_.add(Severity::warning, "trailing-bytes",
                 fmt::format("{} bytes follow the data", file_.size() - padded_end));
    } else if (!header_.tensors.empty() && file_.size() < padded_end && file_.size() >= end) {
      tally_.add(Severity::note, "final-padding-missing", "the last tensor is not padded to the alignment");
    }
  }

  const Header& header_;
  const File& file_;
  FindingTally& tally_;
  std::uint64_t next_ = 0;      // where the next tensor must begin, in the data section
  std::uint64_t data_end_ = 0;  // of the last one without padding, in the file
};

}  // namespace

std::vector<StoredArray> place_tensors(const Header& header, const File& file, FindingTally& tally) {
  return Placer(header, file, tally).place();
}

}  // namespace regauge::gguf
