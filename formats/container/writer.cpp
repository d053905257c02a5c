#include "formats/container/writer.h"

#include <algorithm>
#include <array>
#include <variant>

#include "base/checked.h"
#include "base/error.h"
#include "base/zstd.h"
#include "formats/container/keys.h"
#include "formats/gguf/header_bytes.h"
#include "formats/gguf/writer.h"
#include "ir/ggml_type.h"

namespace regauge::container {
namespace {

// Bytes read at once where a whole part goes by.
constexpr std::size_t kBandBytes = std::size_t{4} << 20;
constexpr std::array<std::byte, gguf::kDefaultAlignment> kPadding{};

bool has_16_bits(const StoredArray& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  return dtype != nullptr && bits(*dtype) == 16;
}

/// GGUF data in the other byte order: the type of a tensor would promise numbers that are not there.
bool is_big_endian(const Checkpoint& checkpoint, const File& file) {
  if (checkpoint.array_format() != "gguf" || file.size() < 8) return false;
  std::array<std::byte, 8> head{};
  file.read_at(0, head);
  return head[4] == std::byte{0} && head[7] != std::byte{0};
}

/// ggml's type for an array that a GGUF tensor can hold as it is.
std::optional<std::uint32_t> native_type(const StoredArray& array, const std::string& tensor) {
  ArrayPlan plan{tensor, {}, array.shape};
  if (const auto* dtype = std::get_if<DType>(&array.element)) {
    plan.element = *dtype;
  } else if (const auto* block = std::get_if<BlockType>(&array.element)) {
    plan.element = *block;
  } else {
    return std::nullopt;
  }
  // A scalar and an empty array are legal, but some readers have never seen one.
  if (array.shape.rank() == 0 || array.bytes == 0 || gguf::can_hold(plan) || plan.bytes() != array.bytes) {
    return std::nullopt;
  }
  const auto* block = std::get_if<BlockType>(&plan.element);
  return block != nullptr ? ggml_type(*block).id : ggml_type(std::get<DType>(plan.element))->id;
}

}  // namespace

ContainerWriter::ContainerWriter(const std::filesystem::path& target, const WriteOptions& options)
    : output_(OutputFile::create(target, {.overwrite = options.overwrite,
                                          .replace_partial = options.replace_partial || options.resume,
                                          .on_failure = options.keep_partial ? OnFailure::keep : OnFailure::remove})) {}

void ContainerWriter::begin(const Checkpoint& source, const ContainerOptions& options) {
  if (options.zstd && (options.level < 1 || options.level > max_zstd_level())) {
    throw Error(ErrorCode::invalid, "zstd levels go from 1 to {}, and {} is none", max_zstd_level(), options.level);
  }
  source_ = &source;
  level_ = options.level;
  Contents contents = describe(source, options.value_digests);
  arrays_ = std::move(contents.arrays);
  description_ = description_keys(contents.description);
  layout_.emplace(contents.description);
  files_ = contents.description.files.size();
  members_ = std::move(contents.description.files);
  std::ranges::copy(contents.description.sidecars, std::back_inserter(members_));
  for (const SourceFile& file : source.files) is_big_endian_.push_back(is_big_endian(source, *file.file));
  digests_.resize(layout_->parts().size());
  if (options.zstd) chunks_ = ChunkTable::cut(layout_->parts(), options.chunk_bytes);
  place_parts();
}

/// Fixes what can be fixed before any data: for the uncompressed form everything but the digests. The header has the same
/// length whatever they will be.
void ContainerWriter::place_parts() {
  for (std::size_t i = 0; i < layout_->parts().size(); ++i) places_.push_back(place_of(i));
  header_bytes_ = header().size();
  position_ = header_bytes_;
  if (chunks_) {
    open_begin_ = position_;
    close_parts();
    return;
  }
  for (std::size_t i = 0; i < places_.size(); ++i) {
    places_[i].offset = position_ - header_bytes_;
    position_ = round_up(position_ + layout_->parts()[i].bytes, gguf::kDefaultAlignment);
  }
  output_.file().preallocate(position_);
}

ContainerWriter::Place ContainerWriter::place_of(std::size_t part) const {
  const Part& one = layout_->parts()[part];
  Place place{{static_cast<std::int64_t>(one.bytes)}, ggml_type(DType::i8)->id, 0};
  if (chunks_ || one.kind != PartKind::array) return place;
  const StoredArray& array = source_->arrays[arrays_[one.index]];
  if (is_big_endian_[array.file]) return place;
  if (const auto type = native_type(array, one.tensor)) {
    place.type = *type;
    place.ne.assign(array.shape.dims.rbegin(), array.shape.dims.rend());
  }
  return place;
}

std::vector<std::byte> ContainerWriter::header() const {
  Metadata keys;
  keys.append(std::string(kVersionKey), kVersion);
  // GGUF wants an architecture of every file, and this one keeps model loaders away.
  keys.append("general.architecture", std::string("regauge"));
  keys.append("general.quantization_version", std::uint32_t{2});
  for (const Metadata::Entry& entry : description_.entries()) keys.append(entry.first, entry.second);
  keys.append(std::string(kCodecKey), std::string(chunks_ ? kZstdCodec : kNoCodec));
  if (chunks_) append_chunk_keys(keys, *chunks_);
  if (!digests_.empty()) {
    std::vector<std::string> digests;
    digests.reserve(digests_.size());
    for (const Digest128& digest : digests_) digests.push_back(hex(digest));
    keys.append(std::string(kDigestsKey), MetaArray{MetaType::string, std::move(digests)});
  }
  keys.append(std::string(kRootKey), hex(root_));
  std::vector<const Metadata::Entry*> entries;
  for (const Metadata::Entry& entry : keys.entries()) entries.push_back(&entry);
  std::vector<gguf::TensorInfo> tensors;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    tensors.push_back({layout_->parts()[i].tensor, places_[i].ne, places_[i].type, places_[i].offset, 0});
  }
  return gguf::header_bytes(entries, tensors);
}

std::size_t ContainerWriter::units() const noexcept { return chunks_ ? chunks_->size() : places_.size(); }

std::uint64_t ContainerWriter::unit_bytes(std::size_t unit) const {
  if (chunks_) return chunks_->raw_bytes(layout_->parts(), chunks_->part_of(unit), unit);
  return layout_->parts().at(unit).bytes;
}

void ContainerWriter::read_source(std::size_t part, std::uint64_t offset, std::span<std::byte> out) const {
  visit_range(layout_->of_part(part), &Extent::part_offset, offset, out,
              [this](const Extent& extent, std::uint64_t skip, std::span<std::byte> piece) {
                const std::uint64_t at = extent.member_offset + skip;
                if (extent.member < files_) return source_->files[extent.member].file->read_at(at, piece);
                const Member& sidecar = members_[extent.member];
                const File file = source_->folder->open(sidecar.name);
                if (file.size() != sidecar.bytes) {
                  throw Error(ErrorCode::io, "has changed since it was listed: {} bytes then, {} now", sidecar.bytes,
                              file.size())
                      .at(file.path());
                }
                file.read_at(at, piece);
              });
}

void ContainerWriter::write(std::size_t unit) {
  if (chunks_) throw Error(ErrorCode::internal, "compressed units are appended").at(output_.target().native());
  const std::uint64_t bytes = layout_->parts().at(unit).bytes;
  std::vector<std::byte> band(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, kBandBytes)));
  Xxh3_128 digest;
  for (std::uint64_t at = 0; at < bytes; at += band.size()) {
    const auto piece =
        std::span(band).first(static_cast<std::size_t>(std::min<std::uint64_t>(band.size(), bytes - at)));
    read_source(unit, at, piece);
    digest.update(piece);
    output_.file().write_at(header_bytes_ + places_[unit].offset + at, piece);
  }
  digests_[unit] = digest.value();
  ++written_;
}

CompressedUnit ContainerWriter::compress(std::size_t unit) const {
  const std::size_t part = chunks_->part_of(unit);
  CompressedUnit out;
  out.raw.resize(static_cast<std::size_t>(chunks_->raw_bytes(layout_->parts(), part, unit)));
  read_source(part, chunks_->begin(part, unit), out.raw);
  out.digest = Xxh3_128::of(out.raw);
  const Part& one = layout_->parts()[part];
  const bool planes = one.kind == PartKind::array && has_16_bits(source_->arrays[arrays_[one.index]]);
  out.encoded = encode_chunk(out.raw, planes, level_);
  return out;
}

void ContainerWriter::append(std::size_t unit, const CompressedUnit& compressed) {
  if (!chunks_ || unit != next_chunk_ || unit >= chunks_->size()) {
    throw Error(ErrorCode::internal, "unit {} is appended where unit {} should be", unit, next_chunk_)
        .at(output_.target().native());
  }
  const EncodedChunk& encoded = compressed.encoded;
  const auto& stored = encoded.coding == Coding::raw ? compressed.raw : encoded.bytes;
  output_.file().write_at(position_, stored);
  position_ += stored.size();
  chunks_->stored[unit] = static_cast<std::uint32_t>(stored.size());
  chunks_->coding[unit] = static_cast<std::uint8_t>(encoded.coding);
  chunks_->digests[unit] = compressed.digest;
  open_digest_->update(compressed.raw);
  ++next_chunk_;
  close_parts();
}

/// Ends the parts that have all their chunks, those without any at once.
void ContainerWriter::close_parts() {
  if (!open_digest_) open_digest_.emplace();
  while (open_part_ < places_.size() && chunks_->first[open_part_ + 1] == next_chunk_) {
    Place& place = places_[open_part_];
    place.offset = open_begin_ - header_bytes_;
    place.ne = {static_cast<std::int64_t>(position_ - open_begin_)};
    digests_[open_part_] = open_digest_->value();
    const std::uint64_t end = round_up(position_, gguf::kDefaultAlignment);
    if (end > position_)
      output_.file().write_at(position_, std::span(kPadding).first(static_cast<std::size_t>(end - position_)));
    position_ = open_begin_ = end;
    open_digest_.emplace();
    ++open_part_;
  }
}

void ContainerWriter::seal() {
  const std::size_t done = chunks_ ? next_chunk_ : written_.load();
  if (done != units()) {
    throw Error(ErrorCode::internal, "{} of {} units were written", done, units()).at(output_.target().native());
  }
  root_ = root_digest(description_, digests_);
  const std::vector<std::byte> bytes = header();
  if (bytes.size() != header_bytes_) {
    throw Error(ErrorCode::internal, "the header has {} bytes where {} were reserved", bytes.size(), header_bytes_)
        .at(output_.target().native());
  }
  output_.file().write_at(0, bytes);
  output_.file().flush();
}

}  // namespace regauge::container
