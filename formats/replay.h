#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/output_directory.h"
#include "formats/format.h"

namespace regauge {

/// A run of bytes of one file of a checkpoint: what a worker copies at a time.
struct ReplayUnit {
  std::size_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// Writes every file of a checkpoint again, byte for byte: arrays, sidecars and adapters of a directory, all parts of a split
/// GGUF, or the one file that it is. As a Writer it knows files where others know arrays: put() and read_back() count them as
/// units() do. The checkpoint must outlive it.
class ReplayWriter final : public Writer {
 public:
  /// No unit is larger.
  static constexpr std::uint64_t kMaxUnitBytes = std::uint64_t{4} << 20;

  /// Creates and reserves the files. With `options.directory` the target is a directory, which a checkpoint that
  /// is_directory() needs; else a file, or the NAME.gguf that the parts of a split model take their names from.
  /// `options.files` and `options.shard_bytes` do not apply. Throws what OutputFile and OutputDirectory do on creation,
  /// Error{invalid} for a checkpoint that does not fit that kind of target, Error{unsupported} for one with an adapter that
  /// was named apart and lies elsewhere.
  ReplayWriter(const Checkpoint& source, const std::filesystem::path& target, const WriteOptions& options);

  /// All bytes of all files, cut up: each is to be read and put once, in any order, by any thread.
  std::vector<ReplayUnit> units() const;
  /// The file's name in the checkpoint.
  const std::string& name(std::size_t file) const { return files_.at(file).name; }
  /// Fills `out`, which holds unit.bytes, from the source. Safe from any thread. Throws Error{io} when the file has changed
  /// its size since.
  void read(const ReplayUnit& unit, std::span<std::byte> out) const;

  Order order() const noexcept override { return Order::any; }
  /// Everything is fixed already, so both must be empty.
  void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) override;
  void put(std::size_t file, std::uint64_t offset, std::span<const std::byte> bytes) override;
  void read_back(std::size_t file, std::uint64_t offset, std::span<std::byte> out) const override;
  void seal() override;
  void commit() override;
  std::filesystem::path sealed_path() const override;
  std::uint64_t file_bytes() const override { return total_bytes_; }

 private:
  struct ReplayedFile {
    std::string name;
    std::uint64_t bytes = 0;
    std::shared_ptr<const File> file;  // null for a sidecar, of which there may be more than files that can be open
  };

  void list_files();
  void create_outputs(const std::filesystem::path& target);
  void check_range(std::size_t file, std::uint64_t offset, std::uint64_t bytes) const;

  const Checkpoint& source_;
  WriteOptions options_;
  std::vector<ReplayedFile> files_;
  std::uint64_t total_bytes_ = 0;
  std::atomic<std::uint64_t> written_ = 0;
  std::optional<OutputDirectory> directory_;
  std::vector<OutputFile> outputs_;  // of each file, where it is no directory
};

}  // namespace regauge
