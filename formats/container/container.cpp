#include "formats/container/container.h"

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/render.h"
#include "base/text.h"
#include "formats/container/package.h"
#include "formats/container/writer.h"

namespace regauge {
namespace {

using container::Package;

/// The inside as its own reader wants to see it.
Source inner_source(const std::shared_ptr<const Package>& package) {
  const container::Description& description = package->description();
  const FolderPtr folder = container::folder_of(package);
  if (!description.entry.empty()) return probe(folder, description.entry);
  Source source;
  source.path = folder->path();
  source.is_directory = true;
  source.folder = folder;
  for (std::size_t i = 0; i < package->layout().members(); ++i) source.entries.emplace_back(package->member(i).name);
  std::ranges::sort(source.entries, {},
                    [](const std::filesystem::path& path) -> const std::string& { return path.native(); });
  return source;
}

/// Holds the arrays that the inner reader found against the description. They come from the file's own header; a
/// description that says otherwise misleads only those who go by it.
void compare_arrays(const Checkpoint& checkpoint, const container::Description& description, FindingTally& tally) {
  std::unordered_map<std::string_view, std::size_t> files;
  for (std::size_t i = 0; i < description.files.size(); ++i) files.emplace(description.files[i].name, i);
  std::unordered_map<std::string, const container::Array*> described;
  const auto place = [](std::size_t file, std::uint64_t offset, std::uint64_t bytes) {
    return fmt::format("{}:{}:{}", file, offset, bytes);
  };
  for (const container::Array& array : description.arrays) {
    if (array.bytes > 0) described.emplace(place(array.file, array.offset, array.bytes), &array);
  }
  for (const StoredArray& array : checkpoint.arrays) {
    const auto file = files.find(checkpoint.files.at(array.file).name);
    // A file from elsewhere: an adapter that the user named.
    if (file == files.end() || array.bytes == 0) continue;
    const auto found = described.find(place(file->second, array.offset, array.bytes));
    if (found == described.end() || json_text(found->second->name) != json_text(array.name)) {
      tally.add(Severity::warning, "container-description", "the container's description has no such array",
                array.name);
    }
  }
}

Checkpoint open(const Source& source, const OpenOptions& options) {
  const auto package = Package::open(std::make_shared<const File>(source.open()));
  const std::string& inner_name = package->description().format;
  const Format* inner = find_format(inner_name);
  if (inner == &kContainerFormat) {
    throw Error(ErrorCode::malformed, "is a container in a container, which nobody writes")
        .at(source.path.native())
        .offset(0);
  }
  if (inner == nullptr) {
    throw Error(ErrorCode::unsupported, "holds a checkpoint of the format '{}', which is not read here",
                printable(excerpt(inner_name)))
        .at(source.path.native())
        .offset(0);
  }
  Checkpoint checkpoint = inner->open(inner_source(package), options);
  FindingTally tally;
  compare_arrays(checkpoint, package->description(), tally);
  tally.move_to(checkpoint.findings, {});
  checkpoint.path = source.path.native();
  checkpoint.packed_format = checkpoint.format;
  checkpoint.format_version = fmt::format("{} ({}{}{})", container::kVersion, checkpoint.format,
                                          checkpoint.format_version.empty() ? "" : " ", checkpoint.format_version);
  checkpoint.format = kContainerFormat.name;
  return checkpoint;
}

Bid bid(const Source& source) {
  // Whatever its version: the reader says it better than the one of plain GGUF could.
  if (!source.is_directory && container::announced_version(source.head)) return {110, "is a GGUF file with our keys"};
  return {};
}

}  // namespace

namespace container {

Findings check(const std::filesystem::path& path) {
  const auto package = Package::open(std::make_shared<const File>(File::open(path)));
  Findings findings;
  for (std::size_t i = 0; i < package->layout().parts().size(); ++i) {
    if (auto finding = package->check_part(i)) findings.push_back(std::move(*finding));
  }
  return findings;
}

}  // namespace container

namespace {

/// A ContainerWriter as writers of whole checkpoints go.
class WholeContainer final : public WholeWriter {
 public:
  WholeContainer(const Checkpoint& source, const std::filesystem::path& target, const WriteOptions& options)
      : writer_(target, options) {
    writer_.begin(source, {.zstd = options.compression_level != 0,
                           .level = options.compression_level,
                           .value_digests = options.value_digests});
  }

  std::size_t units() const override { return writer_.units(); }
  std::uint64_t unit_bytes(std::size_t unit) const override { return writer_.unit_bytes(unit); }
  bool in_order() const override { return writer_.is_sequential(); }
  std::unique_ptr<Prepared> prepare(std::size_t unit) const override {
    auto prepared = std::make_unique<Compressed>();
    if (in_order()) prepared->unit = writer_.compress(unit);
    return prepared;
  }
  void write(std::size_t unit, const Prepared& prepared) override {
    if (in_order()) {
      writer_.append(unit, static_cast<const Compressed&>(prepared).unit);
    } else {
      writer_.write(unit);
    }
  }
  void seal() override { writer_.seal(); }
  void commit() override { writer_.commit(); }
  std::filesystem::path sealed_path() const override { return writer_.sealed_path(); }
  std::uint64_t file_bytes() const override { return writer_.file_bytes(); }

 private:
  struct Compressed final : Prepared {
    container::CompressedUnit unit;
  };

  container::ContainerWriter writer_;
};

std::unique_ptr<WholeWriter> take_whole(const Checkpoint& source, const std::filesystem::path& target,
                                        const WriteOptions& options) {
  return std::make_unique<WholeContainer>(source, target, options);
}

}  // namespace

const Format kContainerFormat = {
    .name = "container",
    .summary = "containers (.rg.gguf): a whole checkpoint of any format in one GGUF file, with digests",
    .bid = bid,
    .open = open,
    .can_hold = nullptr,
    .create = nullptr,
    .take_whole = take_whole,
};

}  // namespace regauge
