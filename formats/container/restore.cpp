#include "formats/container/restore.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "base/output_directory.h"
#include "base/output_file.h"
#include "formats/container/package.h"

namespace regauge::container {
namespace {

namespace fs = std::filesystem;

// Bytes read at once.
constexpr std::size_t kBandBytes = std::size_t{4} << 20;

/// Fills files with members and checks their parts.
class Restorer {
 public:
  explicit Restorer(const Package& package) : package_(package), band_(kBandBytes) {}

  void fill(WritableFile& file, std::size_t member) {
    file.preallocate(package_.member(member).bytes);
    // What lies between the arrays is one part in many runs; every other part is one run.
    Xxh3_128 skeleton;
    for (const Extent& extent : package_.layout().of_member(member)) {
      if (package_.layout().parts()[extent.part].kind == PartKind::skeleton) {
        copy(extent, file, skeleton);
        continue;
      }
      Xxh3_128 digest;
      copy(extent, file, digest);
      check(extent.part, digest, extent.member_offset);
    }
    if (member < package_.description().files.size()) check(member, skeleton, 0);
  }

 private:
  void copy(const Extent& extent, WritableFile& file, Xxh3_128& digest) {
    for (std::uint64_t at = 0; at < extent.bytes; at += band_.size()) {
      const auto piece =
          std::span(band_).first(static_cast<std::size_t>(std::min<std::uint64_t>(band_.size(), extent.bytes - at)));
      package_.read_part(extent.part, extent.part_offset + at, piece);
      digest.update(piece);
      file.write_at(extent.member_offset + at, piece);
    }
  }

  void check(std::size_t part, const Xxh3_128& digest, std::uint64_t member_offset) const {
    if (digest.value() == package_.part_digest(part)) return;
    const std::string array = package_.array_name(part);
    const Member& member = package_.member_of(part);
    throw Error(ErrorCode::malformed, "the data do not have their digest")
        .tensor(array.empty() ? member.name : array)
        .at((fs::path(package_.file().path()) / member.name).native())
        .offset(member_offset);
  }

  const Package& package_;
  std::vector<std::byte> band_;
};

fs::path without_final_slash(const fs::path& path) {
  return path.has_filename() || !path.has_parent_path() ? path : path.parent_path();
}

}  // namespace

Restored restore(const fs::path& container, const fs::path& target, const WriteOptions& options) {
  const auto package = Package::open(std::make_shared<const File>(File::open(container)));
  const std::size_t members = package->layout().members();
  Restored restored;
  restored.files = members;
  restored.is_directory = members != 1 || package->description().entry.empty();
  for (std::size_t i = 0; i < members; ++i) restored.bytes += package->member(i).bytes;
  Restorer restorer(*package);
  const OutputOptions output_options{.overwrite = options.overwrite,
                                     .replace_partial = options.replace_partial || options.resume,
                                     .on_failure = options.keep_partial ? OnFailure::keep : OnFailure::remove};
  if (!restored.is_directory) {
    OutputFile output = OutputFile::create(target, output_options);
    restorer.fill(output.file(), 0);
    output.commit();
    return restored;
  }
  // What may be overwritten is a checkpoint of the same kind.
  const std::string mark = members > 0 ? fs::path(package->member(0).name).extension().native() : std::string();
  OutputDirectory output = OutputDirectory::create(without_final_slash(target), output_options, mark);
  for (std::size_t i = 0; i < members; ++i) {
    WritableFile file = output.make(package->member(i).name);
    restorer.fill(file, i);
  }
  output.commit();
  return restored;
}

}  // namespace regauge::container
