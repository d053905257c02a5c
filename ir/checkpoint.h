#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/finding.h"
#include "base/folder.h"
#include "base/json.h"
#include "ir/metadata.h"
#include "ir/tensor.h"

namespace regauge {

/// A naming scheme for tensors together with the conventions that go with it (ir/view.h).
enum class Dialect : std::uint8_t { hf, gguf, mlx };

std::string_view name(Dialect dialect);

/// A file that holds arrays, with its header verbatim, so that it can be written again byte for byte.
struct SourceFile {
  std::string name;  ///< relative to the checkpoint, as its index spells it
  std::shared_ptr<const File> file;
  std::uint64_t data_offset = 0;  ///< where the data section begins; the skeleton is [0, data_offset)
};

/// A file beside the arrays: config.json, tokenizer.json, README.md ... Not read until asked for.
struct Sidecar {
  std::string name;  ///< relative path
  std::uint64_t bytes = 0;
};

/// What a format's reader makes of a path: headers only, data on demand. Everything that was found is here, also what
/// nobody asked for; nothing in it has been interpreted beyond the format's own rules.
struct Checkpoint {
  std::string path;            ///< as the user gave it
  std::string format;          ///< the Format's name: "safetensors", "gptq", "mlx", "gguf", "container"
  std::string format_version;  ///< "v1", "v3 little endian"; empty where there is none
  std::string packed_format;   ///< of what a container holds: the format of the checkpoint inside; else empty
  Dialect dialect = Dialect::hf;
  FolderPtr folder;        ///< where files and sidecars lie
  std::string entry_file;  ///< the file of `folder` that was opened; empty when the whole folder was

  std::vector<SourceFile> files;
  std::vector<StoredArray> arrays;
  std::vector<Tensor> tensors;
  Metadata metadata;                 ///< GGUF keys; of safetensors files the strings of `__metadata__`
  std::optional<Json> config;        ///< config.json, when there is one
  std::optional<Json> quantization;  ///< the quantization section that the format's reader went by
  std::vector<Sidecar> sidecars;
  Findings findings;

  /// The format that says what the arrays mean, whether or not they came in a container.
  const std::string& array_format() const noexcept { return packed_format.empty() ? format : packed_format; }
  /// Its version, without the container's own.
  std::string array_version() const;
  const Tensor* find(std::string_view name) const;
  const StoredArray* find_array(std::string_view name) const;
  bool has_sidecar(std::string_view name) const;
  /// Text of a sidecar, or nothing when it is not there. Throws Error{malformed} when it is larger than `max_bytes`.
  std::optional<std::string> sidecar_text(std::string_view name, std::uint64_t max_bytes) const;
  /// Whether it is a whole directory, and not one or some files of one.
  bool is_directory() const { return entry_file.empty(); }
  /// Size of all files that hold arrays, headers included.
  std::uint64_t file_bytes() const;
  /// Throws Error{malformed} with both files when two arrays have one name, as shards of different downloads may.
  void check_array_names() const;
};

/// Opens a sidecar. Throws Error{not_found} when there is none of that name, and what File::open throws.
std::shared_ptr<const File> open_sidecar(const Checkpoint& checkpoint, std::string_view name);

}  // namespace regauge
