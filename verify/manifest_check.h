#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "verify/manifest.h"

namespace regauge {

/// What has become of what a manifest records.
struct ManifestReport {
  std::uint64_t same = 0;
  std::vector<std::string> changed;  ///< other bytes, or other values
  std::vector<std::string> retyped;  ///< the same bytes under another type or shape
  std::vector<std::string> missing;  ///< recorded and not here
  std::vector<std::string> added;    ///< here and not recorded

  bool equal() const { return changed.empty() && retyped.empty() && missing.empty() && added.empty(); }
};

/// Holds stored digests of one algorithm against those of the manifest: arrays, or where it records none, files by all their
/// arrays. Files are told by name, or by the end of the path; a single file may have been renamed. What comes out is named
/// "file:array" or "file".
ManifestReport check_stored(const Manifest& manifest, std::span<const StoredSums> sums, DigestAlgorithm algorithm);

/// Holds the SHA-256 of whole files against those of the manifest.
ManifestReport check_whole_files(const Manifest& manifest, std::span<const StoredSums> sums);

/// Holds value digests against those of the manifest, which has some.
ManifestReport check_values(const Manifest& manifest, const ValueDigests& values);

/// For people: what differs, one a line, then the counts.
std::string render_report(const ManifestReport& report);

/// The document of schema "regauge.check/1".
Json report_to_json(const ManifestReport& report, std::string_view manifest);

}  // namespace regauge
