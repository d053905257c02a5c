#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "ir/checkpoint.h"

namespace regauge {

/// A path looked at once, so that every format can bid on it without touching the disk again.
struct Source {
  std::filesystem::path path;
  bool is_directory = false;
  std::vector<std::filesystem::path> entries;  ///< of a directory: regular files below it, relative, bytewise ascending
  std::vector<std::byte> head;                 ///< of a file: its first bytes, at most kHeadBytes
  std::uint64_t size = 0;                      ///< of a file
  FolderPtr folder;                            ///< the directory itself, or one that holds the file
  std::filesystem::path file;                  ///< of a file: its place in `folder`

  /// Opens what is no directory. Throws what File::open throws.
  File open() const { return folder->open(file); }

  static constexpr std::size_t kHeadBytes = 4096;
};

/// Reads the directory listing or the first bytes. Throws Error{not_found|io} when the path cannot be read, and
/// Error{invalid} for what is neither a regular file nor a directory.
Source probe(const std::filesystem::path& path);
/// The same for a file of a folder.
Source probe(FolderPtr folder, const std::filesystem::path& relative);

/// How GPTQ zero points are to be read: by the evidence in the data, or as told.
enum class ZerosLabel : std::uint8_t { automatic, v1, v2 };

struct OpenOptions {
  ZerosLabel zeros = ZerosLabel::automatic;
  std::optional<std::filesystem::path> adapter;  ///< a low-rank adapter directory to attach to its modules
  bool find_adapter = true;                      ///< attach an adapter directory that lies inside the checkpoint
};

/// How sure a format is that a path is its own: 0 is "no", more is surer; the reason is for people.
struct Bid {
  int confidence = 0;
  std::string reason;
};

/// One array of an output: everything that fixes its name, size and place.
struct ArrayPlan {
  std::string name;
  std::variant<DType, BlockType> element;
  Shape shape;  ///< row-major, slowest first

  std::uint64_t row_bytes() const;
  std::uint64_t bytes() const;
};

/// A file of an output directory that holds no arrays: config.json, tokenizer.json.
struct CarriedFile {
  std::string name;                                                ///< relative to the output directory
  std::variant<std::string, std::shared_ptr<const File>> content;  ///< its text, or the file to take it from
};

/// A file of arrays that an output directory takes over as it is.
struct KeptFile {
  std::string name;  ///< in the output
  std::shared_ptr<const File> file;
  std::vector<ArrayPlan> arrays;  ///< that it holds
  bool is_indexed = true;
};

struct WriteOptions {
  bool overwrite = false;               ///< replace an existing target
  bool replace_partial = false;         ///< discard what a killed run left
  bool resume = false;                  ///< go on with what a killed run left, its bytes as they are
  bool keep_partial = false;            ///< leave the partial output in place when the writer is given up
  bool directory = false;               ///< a directory where the format has both; some formats know only one
  std::uint64_t shard_bytes = 0;        ///< most data bytes in one file of a split output; 0: everything in one
  std::vector<CarriedFile> files = {};  ///< of a directory; formats of one file ignore them
  /// Of a directory: files of arrays that are there already; then new arrays of the model go to one file, `new_file`.
  std::vector<KeptFile> kept = {};
  std::string new_file = {};
  bool link_kept = false;     ///< hard links instead of copies, where the file system has them
  int compression_level = 0;  ///< of zstd, in formats that compress; 0: as it is
  /// Value digests by tensor name, for formats that keep them.
  std::vector<std::pair<std::string, Digest128>> value_digests = {};
};

/// One output being written, a file or a directory of them. begin() fixes names and sizes; put() may then be called from
/// any thread in any order where order() is `any`; seal() completes the files under their partial names, where
/// sealed_path() can be opened like any checkpoint; commit() makes them appear under their own. Destroyed before that, it
/// leaves the target as it was, and nothing else unless `keep_partial` says so.
class Writer {
 public:
  enum class Order : std::uint8_t { any, sequential };

  virtual ~Writer() = default;
  virtual Order order() const noexcept = 0;
  /// Throws Error{unsupported} for an array that the format cannot hold, Error{io} when the disk is too small.
  virtual void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) = 0;
  /// `bytes` go to `offset` bytes into array `index`; together the calls cover every array exactly once. Bands of rows in
  /// row-major arrays are one extent; transposed layouts (GPTQ) put a band as many small ones.
  virtual void put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// Fills `out` with what was put at `offset` of array `index`, in this run or in the one that it resumes.
  virtual void read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const = 0;
  /// Writes headers last and flushes everything to disk. Throws Error{internal} when bytes are missing.
  virtual void seal() = 0;
  virtual void commit() = 0;
  /// The output as it lies between seal() and commit().
  virtual std::filesystem::path sealed_path() const = 0;
  void finish() {
    seal();
    commit();
  }
  /// Size of the finished output in bytes, all its files together; known after begin().
  virtual std::uint64_t file_bytes() const = 0;
};

/// A checkpoint being written as it is, file by file or array by array, without a plan. Units are independent pieces of
/// work that together are everything.
class WholeWriter {
 public:
  /// What a unit became on the way to its file.
  struct Prepared {
    virtual ~Prepared() = default;
  };

  virtual ~WholeWriter() = default;
  virtual std::size_t units() const = 0;
  /// Bytes of the source that a unit stands for.
  virtual std::uint64_t unit_bytes(std::size_t unit) const = 0;
  /// Whether write() has to get the units 0, 1, 2 ...; else any thread may write any of them.
  virtual bool in_order() const = 0;
  /// Reads a unit from the source; any thread.
  virtual std::unique_ptr<Prepared> prepare(std::size_t unit) const = 0;
  virtual void write(std::size_t unit, const Prepared& prepared) = 0;
  /// As those of Writer.
  virtual void seal() = 0;
  virtual void commit() = 0;
  virtual std::filesystem::path sealed_path() const = 0;
  virtual std::uint64_t file_bytes() const = 0;
};

/// Writes every file of a checkpoint again, byte for byte; see formats/replay.h. `source` must outlive it.
std::unique_ptr<WholeWriter> create_replay(const Checkpoint& source, const std::filesystem::path& target,
                                           const WriteOptions& options);

/// How a format lays a tensor of codes, scales and offsets out in arrays.
enum class Packing : std::uint8_t {
  one_array,  ///< it does not: one array a tensor, dense or of blocks
  gptq,       ///< qweight, qzeros, scales, g_idx, transposed
  mlx,        ///< weight, scales, biases, row by row
};

/// What a packed format's configuration says about one module: every linear layer, and what else has codes.
struct PackedModule {
  std::string name;          ///< without ".weight"
  bool is_quantized = true;  ///< false: a linear layer that stays dense; the rest of the fields mean nothing
  std::string mode;          ///< "affine", "mxfp4", "nvfp4", "mxfp8"; GPTQ modules are affine
  int bits = 4;
  std::int64_t group_size = 128;  ///< -1: all columns
  bool act_order = false;
  bool sym = true;
};

/// A format: one constant of this type each, in its folder.
struct Format {
  std::string_view name;
  std::string_view summary;
  Bid (*bid)(const Source& source);
  Checkpoint (*open)(const Source& source, const OpenOptions& options);
  /// Nothing when the format can hold such an array, else the reason; null for formats that are only read.
  std::optional<std::string> (*can_hold)(const ArrayPlan& array);
  std::unique_ptr<Writer> (*create)(const std::filesystem::path& target, const WriteOptions& options);
  Packing packing = Packing::one_array;
  /// Says in `config`, a config.json, how `modules` are stored, and takes out what another format said there; appends
  /// files of the format's own. `layout` is one of convert's layout names. Null for formats without a config.json.
  void (*configure)(Json& config, std::span<const PackedModule> modules, std::string_view layout,
                    std::vector<CarriedFile>& files) = nullptr;
  /// `section`, a quantization config of this format, with what it has to say of modules that join the `existing` ones. Null
  /// where dense modules need no mention and others cannot be.
  Json (*extend)(const Json& section, std::span<const PackedModule> existing,
                 std::span<const PackedModule> added) = nullptr;
  /// Takes a checkpoint of any format in as it is; null for formats that cannot.
  std::unique_ptr<WholeWriter> (*take_whole)(const Checkpoint& source, const std::filesystem::path& target,
                                             const WriteOptions& options) = nullptr;
};

/// Every format, in bidding order (formats/registry.cpp explains it).
std::span<const Format* const> all_formats();
const Format* find_format(std::string_view name);

/// What the first bytes of a file that is no checkpoint look like, as a noun phrase with the way out where there is one
/// ("a Git LFS pointer, not the file itself: run `git lfs pull`"); nothing when they look like nothing we know.
std::optional<std::string> describe_foreign(std::span<const std::byte> head);

/// The digests that a checkpoint's own format keeps of its bytes (a container's parts), held against them: a finding for each
/// that is not theirs, empty for formats that keep none. Reads everything once. Throws Error{io}.
Findings check_stored_digests(const Checkpoint& checkpoint);

/// Opens with the format that bids highest. Throws Error{unsupported} when nobody bids, naming what the bytes look like
/// (a Git LFS pointer, an HTML page, ...).
Checkpoint open_checkpoint(const std::filesystem::path& path, const OpenOptions& options = {});

}  // namespace regauge
