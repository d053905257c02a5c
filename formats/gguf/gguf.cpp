#include "formats/gguf/gguf.h"

#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/gguf/big_endian.h"
#include "formats/gguf/header.h"
#include "formats/gguf/placement.h"
#include "formats/gguf/split.h"
#include "formats/gguf/split_writer.h"
#include "formats/gguf/writer.h"

namespace regauge {
namespace {

using gguf::Header;

Encoding encoding_of(const StoredArray& array) {
  if (const auto* dtype = std::get_if<DType>(&array.element)) return Dense{*dtype};
  if (const auto* block = std::get_if<BlockType>(&array.element)) return Blocked{*block};
  return std::get<Opaque>(array.element);
}

/// The part that an array is. Bytes that we cannot read row by row count as rows of one byte.
Part as_part(const StoredArray& array, const std::shared_ptr<const File>& file) {
  Part part;
  part.shape = array.shape;
  std::int64_t rows = array.shape.rows();
  std::int64_t row_bytes = 1;
  if (const auto* dtype = std::get_if<DType>(&array.element)) {
    part.dtype = *dtype;
    row_bytes = array.shape.columns() * bits(*dtype) / 8;
  } else if (const auto* block = std::get_if<BlockType>(&array.element)) {
    part.id = PartId::blocks;
    part.dtype = DType::u8;
    row_bytes = array.shape.columns() / block_elements(*block) * block_bytes(*block);
    part.shape.dims.back() = row_bytes;
  } else {
    part.dtype = DType::u8;
    rows = static_cast<std::int64_t>(array.bytes);
    part.shape = {rows, 1};
  }
  part.rows = std::make_shared<FileRows>(file, array.offset, rows, static_cast<std::size_t>(row_bytes));
  return part;
}

const GgmlType* type_of(const StoredArray& array) {
  if (const auto* dtype = std::get_if<DType>(&array.element)) return ggml_type(*dtype);
  if (const auto* block = std::get_if<BlockType>(&array.element)) return &ggml_type(*block);
  return nullptr;
}

/// Makes a big endian part read as little endian; blocks of which nobody can say how become opaque.
void turn_around(StoredArray& array, Part& part, const std::shared_ptr<const File>& file, FindingTally& tally) {
  const GgmlType* type = type_of(array);
  if (type == nullptr) return;
  if (const auto layout = gguf::swap_layout(*type)) {
    part.rows = std::make_shared<gguf::SwappedRows>(std::move(part.rows), *layout);
    return;
  }
  tally.add(Severity::warning, "big-endian-blocks", "big endian blocks of this type are carried but not read",
            array.name);
  array.element = Opaque{fmt::format("big endian {}", type->name)};
  part = as_part(array, file);
}

void add_arrays(Checkpoint& checkpoint, const Header& header, const std::shared_ptr<const File>& file,
                FindingTally& tally) {
  for (StoredArray& array : gguf::place_tensors(header, *file, tally)) {
    array.file = checkpoint.files.size();
    Part part = as_part(array, file);
    if (header.is_big_endian) turn_around(array, part, file, tally);
    Tensor tensor;
    tensor.name = array.name;
    tensor.shape = array.shape;
    tensor.encoding = encoding_of(array);
    tensor.parts.push_back(std::move(part));
    tensor.arrays = {checkpoint.arrays.size()};
    checkpoint.tensors.push_back(std::move(tensor));
    checkpoint.arrays.push_back(std::move(array));
  }
}

/// A later shard has its split keys and, from gguf-split, nothing else. Whatever else it has must not contradict.
void compare_keys(const Metadata& first, const Metadata& later, const std::string& path, FindingTally& tally) {
  for (const auto& [key, value] : later.entries()) {
    if (key == "split.no") continue;
    const MetaValue* known = first.find(key);
    if (known != nullptr && *known == value) continue;
    if (key == "general.architecture") {
      throw Error(ErrorCode::malformed, "key '{}' is not what it is in the first shard", key).at(path);
    }
    tally.add(Severity::warning, "shard-key-ignored", "key of a later shard is not in the first one and is not used",
              key);
  }
}

void add_shards(Checkpoint& checkpoint, const Source& source, const gguf::SplitKeys& split) {
  for (const std::filesystem::path& path : gguf::shard_paths(source.path, split)) {
    FindingTally tally;
    const auto number = checkpoint.files.size();
    auto file = std::make_shared<const File>(source.folder->open(source.file.parent_path() / path.filename()));
    Header header = gguf::read_header(*file, tally);
    gguf::check_shard(header.metadata, number, split, file->path());
    add_arrays(checkpoint, header, file, tally);
    if (number == 0) {
      checkpoint.metadata = std::move(header.metadata);
    } else {
      compare_keys(checkpoint.metadata, header.metadata, file->path(), tally);
    }
    tally.move_to(checkpoint.findings, path.filename().native());
    checkpoint.files.push_back({path.filename().native(), std::move(file), header.data_offset});
  }
  if (checkpoint.arrays.size() != split.tensors) {
    throw Error(ErrorCode::malformed, "key 'split.tensors.count' is {} but the shards hold {} tensors", split.tensors,
                checkpoint.arrays.size())
        .at(checkpoint.files.front().file->path());
  }
  checkpoint.check_array_names();
}

Checkpoint open(const Source& source, const OpenOptions&) { return open_gguf(source); }

Bid bid(const Source& source) {
  if (!source.is_directory && text_of(source.head).starts_with(gguf::kMagic)) return {100, "begins with GGUF"};
  return {};
}

std::unique_ptr<Writer> create(const std::filesystem::path& target, const WriteOptions& options) {
  return options.shard_bytes > 0 ? gguf::create_split_writer(target, options) : gguf::create_writer(target, options);
}

}  // namespace

Checkpoint open_gguf(const Source& source) {
  Checkpoint checkpoint;
  checkpoint.path = source.path.native();
  checkpoint.format = kGgufFormat.name;
  checkpoint.dialect = Dialect::gguf;
  checkpoint.folder = source.folder;
  checkpoint.entry_file = source.file.native();
  FindingTally tally;
  auto file = std::make_shared<const File>(source.open());
  Header header = gguf::read_header(*file, tally);
  checkpoint.format_version = fmt::format("v{} {} endian", header.version, header.is_big_endian ? "big" : "little");
  if (const auto split = gguf::split_keys(header.metadata, file->path())) {
    add_shards(checkpoint, source, *split);
    return checkpoint;
  }
  add_arrays(checkpoint, header, file, tally);
  checkpoint.metadata = std::move(header.metadata);
  checkpoint.files.push_back({source.path.filename().native(), std::move(file), header.data_offset});
  tally.move_to(checkpoint.findings, {});
  return checkpoint;
}

const Format kGgufFormat = {
    .name = "gguf",
    .summary = "GGUF: models, adapters, mmproj, imatrix and vocabulary files of llama.cpp, whole or split",
    .bid = bid,
    .open = open,
    .can_hold = gguf::can_hold,
    .create = create,
};

}  // namespace regauge
