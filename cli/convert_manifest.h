#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "cli/convert_arguments.h"
#include "convert/execute.h"

namespace regauge::cli {

/// The manifest of what a conversion writes: what `regauge checksum OUTPUTS --algorithm xxh3-128 --values --write` makes of it.
class ConvertManifest {
 public:
  /// Creates the file where one is wanted, so that a place which cannot be written is known before the work.
  explicit ConvertManifest(const ConvertArguments& arguments);

  /// Of a conversion: what was digested while it was written is not read again for its stored digests. Value digests decode the
  /// outputs, unless arguments say that there shall be none.
  void write(const Report& report, const std::atomic<bool>& interrupted);
  /// Of a copy, which is read.
  void write(const std::filesystem::path& target, const std::atomic<bool>& interrupted);

 private:
  void write(const std::vector<std::string>& paths, const std::vector<std::optional<StoredDigests>>& known,
             const std::atomic<bool>& interrupted);

  const ConvertArguments& arguments_;
  std::optional<OutputFile> file_;
};

}  // namespace regauge::cli
