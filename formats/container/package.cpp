#include "formats/container/package.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/container/keys.h"
#include "formats/format.h"
#include "formats/gguf/header.h"
#include "formats/gguf/placement.h"

namespace regauge::container {
namespace {

// Bytes read at once where a whole part goes by.
constexpr std::size_t kBandBytes = std::size_t{4} << 20;

void check_version(std::uint32_t version, const std::string& path) {
  if (version > kVersion) {
    throw Error(ErrorCode::unsupported,
                "is a container of version {}, and this program reads version {}: a newer one is needed", version,
                kVersion)
        .at(path)
        .offset(0);
  }
  if (version == 0) throw Error(ErrorCode::malformed, "container version 0 does not exist").at(path).offset(0);
}

class PackedFolder final : public Folder {
 public:
  explicit PackedFolder(std::shared_ptr<const Package> package)
      : Folder(package->file().path()), package_(std::move(package)) {
    for (std::size_t i = 0; i < package_->layout().members(); ++i) members_.emplace(package_->member(i).name, i);
  }

  std::optional<std::uint64_t> file_bytes(const std::filesystem::path& relative) const override {
    const auto found = find(relative);
    return found == members_.end() ? std::nullopt : std::optional(package_->member(found->second).bytes);
  }

  File open(const std::filesystem::path& relative) const override {
    const auto found = find(relative);
    if (found == members_.end()) throw Error(ErrorCode::not_found, "no such file").at(path_of(relative));
    const auto read = [package = package_, member = found->second](std::uint64_t offset, std::span<std::byte> out) {
      package->read_member(member, offset, out);
    };
    return File::virtual_file(path_of(relative), package_->member(found->second).bytes, package_->file().modified_ns(),
                              read);
  }

  bool stays_inside(const std::filesystem::path&) const override { return true; }

 private:
  using Members = std::map<std::string, std::size_t, std::less<>>;

  Members::const_iterator find(const std::filesystem::path& relative) const {
    return members_.find(relative.lexically_normal().native());
  }

  std::shared_ptr<const Package> package_;
  Members members_;
};

}  // namespace

std::optional<std::uint32_t> announced_version(std::span<const std::byte> head) {
  const std::string_view text = text_of(head);
  if (!text.starts_with(gguf::kMagic)) return std::nullopt;
  // The key as a header writes it: its length, its name, the id of its type.
  std::string written(8, '\0');
  store_le<std::uint64_t>(std::as_writable_bytes(std::span(written)).data(), kVersionKey.size());
  written += kVersionKey;
  written += std::string("\x04\0\0\0", 4);
  const auto found = text.find(written);
  if (found == std::string_view::npos || head.size() - found - written.size() < 4) return std::nullopt;
  return load_le<std::uint32_t>(head.data() + found + written.size());
}

std::shared_ptr<const Package> Package::open(std::shared_ptr<const File> file) {
  // Through `new`, because the constructor is nobody else's.
  const std::shared_ptr<Package> package(new Package());
  package->file_ = std::move(file);
  package->read_header();
  return package;
}

void Package::read_header() {
  const std::string& path = file_->path();
  const std::uint64_t head_bytes = std::min<std::uint64_t>(file_->size(), Source::kHeadBytes);
  // Before anything else is believed: a newer version may have changed it.
  if (const auto version = announced_version(file_->read_range(0, head_bytes))) check_version(*version, path);
  FindingTally oddities;
  const gguf::Header header = gguf::read_header(*file_, oddities);
  if (header.version != 3 || header.is_big_endian) {
    throw Error(ErrorCode::unsupported, "containers are GGUF files of version 3, little endian, and this is another")
        .at(path)
        .offset(gguf::kMagic.size());
  }
  const KeyReader keys(header, path);
  check_version(keys.get<std::uint32_t>(kVersionKey), path);
  description_ = read_description(header, path);
  layout_.emplace(description_);
  const std::string& codec = keys.get<std::string>(kCodecKey);
  if (codec != kNoCodec && codec != kZstdCodec) {
    throw Error(ErrorCode::unsupported, "key '{}' is '{}', which is not read", kCodecKey, printable(excerpt(codec)))
        .at(path)
        .offset(header.header_bytes);
  }
  if (codec == kZstdCodec) chunks_ = read_chunk_table(keys, layout_->parts());
  check_sizes(keys, header);
  const std::size_t count = layout_->parts().size();
  if (count > 0) {
    const auto& digests = keys.texts(kDigestsKey);
    if (digests.size() != count) throw keys.fail(kDigestsKey, "has {} entries for {} parts", digests.size(), count);
    for (const std::string& text : digests) {
      const auto digest = digest128_from_hex(text);
      if (!digest) throw keys.fail(kDigestsKey, "has an entry that is no digest");
      digests_.push_back(*digest);
    }
  }
  root_ = root_digest(header.metadata, digests_);
  if (hex(root_) != keys.get<std::string>(kRootKey)) {
    throw keys.fail(kRootKey, "is not the digest of the description: the header is damaged");
  }
  if (chunks_) cache_ = std::make_unique<ChunkCache>(chunks_->chunk_bytes);
}

void Package::check_sizes(const KeyReader& keys, const gguf::Header& header) {
  FindingTally oddities;
  const std::vector<StoredArray> tensors = gguf::place_tensors(header, *file_, oddities);
  const auto& parts = layout_->parts();
  if (tensors.size() != parts.size()) {
    throw keys.fail(kVersionKey, "stands over {} tensors, and the description has {}", tensors.size(), parts.size());
  }
  std::uint64_t end = header.data_offset;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto fail = [&](const std::string& reason) {
      return Error(ErrorCode::malformed, "{}", reason)
          .tensor(tensors[i].name)
          .at(file_->path())
          .offset(header.tensors[i].at);
    };
    if (tensors[i].name != parts[i].tensor) throw fail(fmt::format("is where '{}' should be", parts[i].tensor));
    std::uint64_t bytes = parts[i].bytes;
    if (chunks_) {
      bytes = 0;  // a sum of as many 32-bit numbers as fit in a file
      for (std::size_t c = chunks_->first[i]; c < chunks_->first[i + 1]; ++c) {
        chunk_offsets_.push_back(tensors[i].offset + bytes);
        bytes += chunks_->stored[c];
      }
    }
    if (tensors[i].bytes != bytes) {
      throw fail(fmt::format("has {} bytes, and the description says {}", tensors[i].bytes, bytes));
    }
    part_offsets_.push_back(tensors[i].offset);
    end = round_up(tensors[i].offset + bytes, header.alignment);
  }
  if (!parts.empty() && file_->size() != end) {
    throw Error(ErrorCode::malformed, "has {} bytes, and its header says {}", file_->size(), end)
        .at(file_->path())
        .offset(std::min(file_->size(), end));
  }
}

const Member& Package::member(std::size_t index) const {
  const std::size_t files = description_.files.size();
  return index < files ? description_.files[index] : description_.sidecars.at(index - files);
}

const Member& Package::member_of(std::size_t part) const {
  const Part& one = layout_->parts().at(part);
  switch (one.kind) {
    case PartKind::skeleton: return description_.files[one.index];
    case PartKind::sidecar: return description_.sidecars[one.index];
    case PartKind::array: break;
  }
  return description_.files[description_.arrays[one.index].file];
}

std::string Package::array_name(std::size_t part) const {
  const Part& one = layout_->parts().at(part);
  return one.kind == PartKind::array ? description_.arrays[one.index].name : std::string();
}

Error Package::damaged(std::size_t part, std::uint64_t at, const std::string& reason) const {
  const std::string array = array_name(part);
  return Error(ErrorCode::malformed, "{}", reason)
      .tensor(array.empty() ? member_of(part).name : array)
      .at(file_->path())
      .offset(at);
}

std::vector<std::byte> Package::decode(std::size_t part, std::size_t chunk) const {
  const std::uint64_t at = chunk_offsets_[chunk];
  std::vector<std::byte> stored = file_->read_range(at, chunks_->stored[chunk]);
  std::vector<std::byte> raw;
  if (const auto coding = static_cast<Coding>(chunks_->coding[chunk]); coding == Coding::raw) {
    raw = std::move(stored);
  } else {
    raw.resize(static_cast<std::size_t>(chunks_->raw_bytes(layout_->parts(), part, chunk)));
    try {
      decode_chunk(coding, stored, raw);
    } catch (const Error& error) {
      throw damaged(part, at, error.message());
    }
  }
  if (Xxh3_128::of(raw) != chunks_->digests[chunk]) throw damaged(part, at, "the data do not have their digest");
  return raw;
}

void Package::read_part(std::size_t part, std::uint64_t offset, std::span<std::byte> out) const {
  if (!chunks_) return file_->read_at(part_offsets_[part] + offset, out);
  while (!out.empty()) {
    const std::size_t chunk = chunks_->first[part] + static_cast<std::size_t>(offset / chunks_->chunk_bytes);
    const auto raw = cache_->get(chunk, [&] { return decode(part, chunk); });
    const auto skip = static_cast<std::size_t>(offset % chunks_->chunk_bytes);
    const std::size_t count = std::min(out.size(), raw->size() - skip);
    std::ranges::copy(std::span(*raw).subspan(skip, count), out.begin());
    out = out.subspan(count);
    offset += count;
  }
}

void Package::read_member(std::size_t member, std::uint64_t offset, std::span<std::byte> out) const {
  visit_range(layout_->of_member(member), &Extent::member_offset, offset, out,
              [this](const Extent& extent, std::uint64_t skip, std::span<std::byte> piece) {
                read_part(extent.part, extent.part_offset + skip, piece);
              });
}

std::optional<Finding> Package::check_part(std::size_t part) const {
  const std::uint64_t bytes = layout_->parts().at(part).bytes;
  const auto finding = [&](std::string message) {
    return Finding{Severity::fault, "container-part-damaged", std::move(message), member_of(part).name,
                   array_name(part)};
  };
  Xxh3_128 digest;
  std::vector<std::byte> band(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, kBandBytes)));
  try {
    for (std::uint64_t at = 0; at < bytes; at += band.size()) {
      const auto piece =
          std::span(band).first(static_cast<std::size_t>(std::min<std::uint64_t>(band.size(), bytes - at)));
      read_part(part, at, piece);
      digest.update(piece);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::malformed) throw;
    return finding(error.message());
  }
  if (digest.value() != digests_[part]) return finding("the data do not have their digest");
  return std::nullopt;
}

FolderPtr folder_of(std::shared_ptr<const Package> package) {
  return std::make_shared<const PackedFolder>(std::move(package));
}

}  // namespace regauge::container
