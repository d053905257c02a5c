#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "convert/adapt.h"
#include "convert/options.h"
#include "convert/plan.h"

namespace regauge {

/// The files that go with the arrays of a directory, before its own format has had its say about them.
struct DirectoryFiles {
  std::optional<Json> config;          ///< config.json, which finish_directory_files() writes
  std::optional<Json> adapter_config;  ///< of a PEFT adapter inside the source
  std::vector<CarriedFile> files;      ///< everything else
};

/// Files that describe how arrays are stored, so that they do not outlive them: quantization and adapter configs, indices.
bool describes_storage(std::string_view name);

/// Files for a directory in `dialect` made of `sources`: those that lie beside the source's arrays, or made anew from the
/// keys of a GGUF; files of `options.assets` take the place of both. Index files, quantization configs and adapters are
/// left to those who write them. What had to be guessed goes to `findings`. Throws Error{not_found|malformed|unsupported}.
DirectoryFiles collect_directory_files(std::span<const OpenedPath> sources, Dialect dialect, int mtp_layers,
                                       const ConvertOptions& options, Findings& findings);

/// The architecture that the directory will have, by whose names its arrays are called: of its own config.json where the
/// source is a GGUF, which does not tell a text-only save from a whole one; null to go by the source's.
std::unique_ptr<const Architecture> directory_architecture(std::span<const OpenedPath> sources,
                                                           const DirectoryFiles& files, Dialect dialect);

/// Completes `files` for an output: config.json with what `format` says of the modules written.
std::vector<CarriedFile> finish_directory_files(DirectoryFiles files, const Format& format, const PlannedOutput& output,
                                                const Adaptation& adapted, const ConvertOptions& options);

}  // namespace regauge
