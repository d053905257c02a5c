#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "verify/checksum.h"
#include "verify/value_digest.h"

namespace regauge {

/// One line of a manifest: a digest of an array, of all arrays of a file, or of a whole file.
struct ManifestEntry {
  enum class What : std::uint8_t { array, arrays_of_file, whole_file };
  What what = What::array;
  DigestAlgorithm algorithm = DigestAlgorithm::xxh3_128;  ///< sha256 of whole files
  std::size_t path = 0;  ///< which of the paths that were given, of manifests that say so
  std::string file;
  std::string array;
  std::string digest;
  std::string element;         ///< empty when the manifest does not say
  std::optional<Shape> shape;  ///< likewise
  bool whole_name = false;     ///< `file` is "<path>:<array>" or "<path>", not yet taken apart
};

/// What was recorded of a checkpoint, to be held against what is there.
struct Manifest {
  std::vector<ManifestEntry> entries;
  std::optional<ValueDigests> values;

  bool has_stored() const;  ///< digests of arrays, or of files by all their arrays
  bool has_whole_files() const;
  /// The algorithm to check arrays with: the strongest that was recorded; nothing when none was.
  std::optional<DigestAlgorithm> algorithm() const;
};

/// The document of schema "regauge.checksum/1" (docs/json.md).
Json checksum_to_json(std::span<const StoredSums> sums, const ValueDigests* values);

/// Reads that document, or lines as llama-gguf-hash prints them, of which those with unknown hash names are passed over.
/// Throws Error{malformed} for anything else, a manifest without any digest included.
Manifest parse_manifest(std::string_view text, std::string_view source);

}  // namespace regauge
