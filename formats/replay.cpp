#include "formats/replay.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/gguf/split.h"
#include "formats/positional_writer.h"

namespace regauge {
namespace {

Error changed(const std::string& path) {
  return Error(ErrorCode::io, "has changed its size while it was copied").at(path);
}

}  // namespace

ReplayWriter::ReplayWriter(const Checkpoint& source, const std::filesystem::path& target, const WriteOptions& options)
    : source_(source), options_(options) {
  if (!options.directory && source.is_directory()) {
    throw Error(ErrorCode::invalid, "a directory is written as a directory, and this is to be a file")
        .at(target.native());
  }
  list_files();
  create_outputs(target);
}

void ReplayWriter::list_files() {
  std::set<std::string_view> names;
  for (const SourceFile& file : source_.files) {
    // An adapter that was named apart has a made-up name.
    if (file.file->path() != source_.folder->path_of(file.name)) {
      throw Error(ErrorCode::unsupported, "lies elsewhere, and only what lies in the checkpoint is copied")
          .at(file.file->path());
    }
    names.insert(file.name);
    files_.push_back({file.name, file.file->size(), file.file});
  }
  for (const Sidecar& sidecar : source_.sidecars) {
    if (names.contains(sidecar.name)) continue;
    files_.push_back({sidecar.name, open_sidecar(source_, sidecar.name)->size(), nullptr});
  }
  for (const ReplayedFile& file : files_) {
    const auto total = checked_add(total_bytes_, file.bytes);
    if (!total) throw Error(ErrorCode::invalid, "the files have more bytes than can be counted").at(source_.path);
    total_bytes_ = *total;
  }
}

void ReplayWriter::create_outputs(const std::filesystem::path& target) {
  if (options_.directory) {
    directory_.emplace(OutputDirectory::create(target, output_options(options_), ".safetensors"));
    for (const ReplayedFile& file : files_) directory_->make(file.name).preallocate(file.bytes);
    return;
  }
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto path = files_.size() == 1 ? target : gguf::shard_path(target, i, files_.size());
    outputs_.push_back(OutputFile::create(path, output_options(options_)));
    outputs_.back().preallocate(files_[i].bytes);
  }
}

std::vector<ReplayUnit> ReplayWriter::units() const {
  std::vector<ReplayUnit> units;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    for (std::uint64_t at = 0; at < files_[i].bytes; at += kMaxUnitBytes) {
      units.push_back({i, at, std::min(kMaxUnitBytes, files_[i].bytes - at)});
    }
  }
  return units;
}

void ReplayWriter::read(const ReplayUnit& unit, std::span<std::byte> out) const {
  const ReplayedFile& file = files_.at(unit.file);
  if (file.file) return file.file->read_at(unit.offset, out);
  const auto sidecar = open_sidecar(source_, file.name);
  if (sidecar->size() != file.bytes) throw changed(sidecar->path());
  sidecar->read_at(unit.offset, out);
}

void ReplayWriter::begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) {
  if (!metadata.empty() || !arrays.empty()) {
    throw Error(ErrorCode::internal, "a checkpoint that is copied has no place for other arrays").at(source_.path);
  }
}

void ReplayWriter::check_range(std::size_t file, std::uint64_t offset, std::uint64_t bytes) const {
  const std::uint64_t size = files_.at(file).bytes;
  if (offset <= size && bytes <= size - offset) return;
  throw Error(ErrorCode::internal, "{} bytes at byte {} of a file of {}", bytes, offset, size).at(files_[file].name);
}

void ReplayWriter::put(std::size_t file, std::uint64_t offset, std::span<const std::byte> bytes) {
  check_range(file, offset, bytes.size());
  if (directory_) {
    directory_->open(files_[file].name).write_at(offset, bytes);
  } else {
    outputs_[file].write_at(offset, bytes);
  }
  written_ += bytes.size();
}

void ReplayWriter::read_back(std::size_t file, std::uint64_t offset, std::span<std::byte> out) const {
  check_range(file, offset, out.size());
  if (directory_) return directory_->open(files_[file].name).read_at(offset, out);
  outputs_[file].read_at(offset, out);
}

void ReplayWriter::seal() {
  if (written_ != total_bytes_ && !options_.resume) {
    throw Error(ErrorCode::internal, "{} of {} bytes were copied", written_.load(), total_bytes_).at(source_.path);
  }
  // Those of a directory are flushed when it is committed.
  for (OutputFile& output : outputs_) output.flush();
}

void ReplayWriter::commit() {
  if (directory_) return directory_->commit();
  // As gguf::create_split_writer does: the first part is gone before others appear, and appears when they are there.
  if (outputs_.size() > 1 && options_.overwrite) {
    std::error_code error;
    std::filesystem::remove(outputs_.front().target(), error);
    if (error) {
      throw Error(ErrorCode::io, "cannot be replaced: {}", error.message()).at(outputs_.front().target().native());
    }
  }
  for (auto output = outputs_.rbegin(); output != outputs_.rend(); ++output) output->commit();
}

std::filesystem::path ReplayWriter::sealed_path() const {
  return directory_ ? directory_->partial() : outputs_.at(0).partial();
}

namespace {

/// A ReplayWriter unit by unit.
class WholeReplay final : public WholeWriter {
 public:
  WholeReplay(const Checkpoint& source, const std::filesystem::path& target, const WriteOptions& options)
      : writer_(source, target, options), units_(writer_.units()) {
    writer_.begin({}, {});
  }

  std::size_t units() const override { return units_.size(); }
  std::uint64_t unit_bytes(std::size_t unit) const override { return units_[unit].bytes; }
  bool in_order() const override { return false; }
  std::unique_ptr<Prepared> prepare(std::size_t unit) const override {
    auto raw = std::make_unique<Raw>();
    raw->bytes.resize(static_cast<std::size_t>(units_[unit].bytes));
    writer_.read(units_[unit], raw->bytes);
    return raw;
  }
  void write(std::size_t unit, const Prepared& prepared) override {
    writer_.put(units_[unit].file, units_[unit].offset, static_cast<const Raw&>(prepared).bytes);
  }
  void seal() override { writer_.seal(); }
  void commit() override { writer_.commit(); }
  std::filesystem::path sealed_path() const override { return writer_.sealed_path(); }
  std::uint64_t file_bytes() const override { return writer_.file_bytes(); }

 private:
  struct Raw final : Prepared {
    std::vector<std::byte> bytes;
  };

  ReplayWriter writer_;
  std::vector<ReplayUnit> units_;
};

}  // namespace

std::unique_ptr<WholeWriter> create_replay(const Checkpoint& source, const std::filesystem::path& target,
                                           const WriteOptions& options) {
  return std::make_unique<WholeReplay>(source, target, options);
}

}  // namespace regauge
