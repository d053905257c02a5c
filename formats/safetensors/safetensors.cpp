#include "formats/safetensors/safetensors.h"

#include <memory>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "formats/safetensors/directory.h"
#include "formats/safetensors/directory_writer.h"
#include "formats/safetensors/header.h"
#include "formats/safetensors/low_rank.h"
#include "formats/safetensors/writer.h"

namespace regauge {
namespace {

using safetensors::Header;
using safetensors::ShardSet;

/// An array as a tensor of its own. Where a row is no whole number of bytes (a 4-bit type with an odd last dimension)
/// rows cannot be read one by one, so such an array is only carried.
Tensor as_tensor(const StoredArray& array, std::size_t index, std::shared_ptr<const File> file) {
  const auto dtype = std::get<DType>(array.element);
  Tensor tensor;
  tensor.name = array.name;
  tensor.shape = array.shape;
  tensor.arrays = {index};
  Part part;
  part.shape = array.shape;
  part.dtype = dtype;
  if (const auto row_bytes = storage_bytes(dtype, static_cast<std::uint64_t>(array.shape.columns()))) {
    tensor.encoding = Dense{dtype};
    part.rows = std::make_shared<FileRows>(std::move(file), array.offset, array.shape.rows(),
                                           static_cast<std::size_t>(*row_bytes));
  } else {
    tensor.encoding = Opaque{std::string(name(dtype))};
    const auto bytes = static_cast<std::int64_t>(array.bytes);
    part.dtype = DType::u8;
    part.shape = {bytes, 1};
    part.rows = std::make_shared<FileRows>(std::move(file), array.offset, bytes, 1);
  }
  tensor.parts.push_back(std::move(part));
  return tensor;
}

/// Adds one file and its arrays; names across files are checked later.
void add_file(Checkpoint& checkpoint, FindingTally& tally, std::string name, File opened) {
  auto file = std::make_shared<const File>(std::move(opened));
  Header header = safetensors::read_header(*file);
  const std::size_t file_index = checkpoint.files.size();
  if (header.null_metadata) tally.add(Severity::note, "null-metadata", "__metadata__ is null", name);
  for (auto& [key, text] : header.metadata) {
    if (const MetaValue* known = checkpoint.metadata.find(key); known == nullptr) {
      checkpoint.metadata.append(key, std::move(text));
    } else if (*known != MetaValue(text)) {
      tally.add(Severity::note, "shard-metadata-differs", "shards disagree about a __metadata__ key, the first counts",
                key);
    }
  }
  for (safetensors::Entry& entry : header.entries) {
    StoredArray array;
    array.name = std::move(entry.name);
    array.element = entry.dtype;
    array.shape = std::move(entry.shape);
    array.file = file_index;
    array.offset = header.data_offset + entry.begin;
    array.bytes = entry.end - entry.begin;
    if (array.bytes == 0) tally.add(Severity::note, "empty-tensor", "array without elements", array.name);
    checkpoint.tensors.push_back(as_tensor(array, checkpoint.arrays.size(), file));
    checkpoint.arrays.push_back(std::move(array));
  }
  checkpoint.files.push_back({std::move(name), std::move(file), header.data_offset});
}

Checkpoint open(const Source& source, const OpenOptions& options) {
  Checkpoint checkpoint = open_safetensors(source, options);
  safetensors::attach_low_rank(checkpoint, source, options);
  return checkpoint;
}

Bid bid(const Source& source) {
  if (source.is_directory) {
    if (safetensors::has_shards(source)) return {50, "has .safetensors files"};
    return {};
  }
  if (safetensors::looks_like_safetensors(source.head, source.size)) return {50, "begins like a safetensors file"};
  // A broken file under the right name gets the reader's own words, unless it is something else altogether.
  if (source.path.extension() == ".safetensors" && !describe_foreign(source.head)) return {10, "is named .safetensors"};
  return {};
}

std::unique_ptr<Writer> create(const std::filesystem::path& target, const WriteOptions& options) {
  if (options.directory) return safetensors::create_directory_writer(target, options);
  if (options.shard_bytes > 0) {
    throw Error(ErrorCode::invalid, "several safetensors files are written into a directory, and this is one file")
        .at(target.native());
  }
  return safetensors::create_writer(target, options);
}

}  // namespace

Checkpoint open_safetensors(const Source& source, const OpenOptions&) {
  Checkpoint checkpoint;
  FindingTally tally;
  checkpoint.path = source.path.native();
  checkpoint.format = kSafetensorsFormat.name;
  checkpoint.dialect = Dialect::hf;
  checkpoint.folder = source.folder;
  if (!source.is_directory) {
    checkpoint.entry_file = source.file.native();
    add_file(checkpoint, tally, source.file.native(), source.open());
  } else {
    const ShardSet set = safetensors::find_shards(source, tally);
    checkpoint.config = safetensors::read_config(source, tally);
    for (const std::string& shard : set.shards) add_file(checkpoint, tally, shard, source.folder->open(shard));
    checkpoint.check_array_names();
    safetensors::check_index(set, checkpoint, tally);
    checkpoint.sidecars = safetensors::find_sidecars(source, set, tally);
  }
  tally.move_to(checkpoint.findings, {});
  return checkpoint;
}

SafetensorsGlance glance(const Source& source) {
  SafetensorsGlance seen;
  seen.is_safetensors = bid(source).confidence > 0;
  if (!seen.is_safetensors) return seen;
  FindingTally ignored;
  const auto add_names = [&seen](const File& file) {
    for (auto& entry : safetensors::read_header(file).entries) seen.names.push_back(std::move(entry.name));
  };
  if (source.is_directory) {
    try {
      seen.config = safetensors::read_config(source, ignored);
    } catch (const Error&) {
      seen.config.reset();  // open_safetensors will say what is wrong with it
    }
  }
  try {
    if (source.is_directory) {
      for (const std::string& shard : safetensors::find_shards(source, ignored).shards) {
        add_names(source.folder->open(shard));
      }
    } else {
      add_names(source.open());
    }
  } catch (const Error&) {
    seen.names.clear();
  }
  return seen;
}

const Format kSafetensorsFormat = {
    .name = "safetensors",
    .summary = "safetensors: one file, or a Hugging Face directory of shards",
    .bid = bid,
    .open = open,
    .can_hold = safetensors::can_hold,
    .create = create,
};

}  // namespace regauge
