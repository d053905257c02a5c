#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/stored_digests.h"
#include "ir/checkpoint.h"
#include "ir/shape.h"

namespace regauge {

/// What stored bytes are digested with. All but the first are those of llama-gguf-hash, in the order of its lines.
enum class DigestAlgorithm : std::uint8_t { xxh3_128, xxh64, sha1, sha256, uuid };

/// "xxh3-128", "xxh64", "sha1", "sha256", "uuid"
std::string_view name(DigestAlgorithm algorithm);
std::optional<DigestAlgorithm> digest_algorithm_from_name(std::string_view text);

/// Digests in lower-case hexadecimal (a UUID in its own form), by algorithm.
using DigestTexts = std::map<DigestAlgorithm, std::string>;

struct ArraySum {
  std::string name;
  std::string file;     ///< relative to the checkpoint, as SourceFile::name
  std::string element;  ///< "BF16", "Q4_0"
  Shape shape;
  std::uint64_t bytes = 0;
  DigestTexts digests;  ///< of its bytes without padding; a UUID is of whole files only
};

struct FileSum {
  std::string name;
  std::string label;  ///< how the user would name it: the path as given, or below it
  std::uint64_t bytes = 0;
  DigestTexts arrays;  ///< over the bytes of all its arrays in the order of the header: no names, no shapes, no padding
  std::string sha256;  ///< of the file's very bytes; empty when not asked for
};

/// Digests of what lies on disk, of one checkpoint.
struct StoredSums {
  std::string path;
  std::string format;
  std::vector<FileSum> files;    ///< those with arrays first, then sidecars, which only whole-file digests cover
  std::vector<ArraySum> arrays;  ///< by file, then in the order of the header
  std::uint64_t bytes_read = 0;
};

struct SumOptions {
  std::vector<DigestAlgorithm> algorithms;  ///< of arrays; none: arrays are not read
  bool whole_files = false;                 ///< SHA-256 of whole files and sidecars
  int threads = 0;                          ///< files at once; 0: one for each core
};

/// Bytes read so far, and all that will be; from any thread but never from two at once.
using SumProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Reads every array once, front to back, a few MiB at a time, several files at once. Throws what reading throws, and
/// Error{io} when `cancel` becomes true.
StoredSums checksum(const Checkpoint& checkpoint, const SumOptions& options, const SumProgress& progress = {},
                    const std::atomic<bool>* cancel = nullptr);

/// What checksum() with xxh3-128 alone would find, from digests that were taken while the checkpoint was written; nothing when they
/// are not of its arrays in its order, or it has several files.
std::optional<StoredSums> sums_of_written(const Checkpoint& checkpoint, const StoredDigests& digests);

/// The lines of llama-gguf-hash: for every array its digests, then those of its file. Arrays are left out when
/// `with_arrays` is not set. Whole-file digests follow under the name "sha256-file".
std::string render_lines(const StoredSums& sums, bool with_arrays = true);

}  // namespace regauge
