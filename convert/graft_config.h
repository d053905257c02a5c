#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "convert/adapt.h"
#include "convert/plan.h"

namespace regauge {

/// The files beside the arrays of a directory that gets parts, before its format has had its say.
struct GraftedFiles {
  Json config;                      ///< config.json, with what it says of the new parts
  std::vector<CarriedFile> others;  ///< without config.json and the index

  /// Adds the configuration of an adapter that `factors` makes.
  void add_adapter(const Adaptation& factors);
  /// The files of `output`, a directory made of `base`: quantization configs with what they have to say of the new modules.
  /// Throws Error{unsupported} where the format cannot say it.
  std::vector<CarriedFile> finish(const Format& format, const Checkpoint& base, const Architecture& architecture,
                                  const PlannedOutput& output) &&;
};

/// Those of `base` with `mtp_layers` announced and, with a donor of a vision tower, what describes it. Throws
/// Error{unsupported} for a text-only class, which has no place for a tower, Error{not_found} for a donor without a description.
GraftedFiles grafted_files(const Checkpoint& base, const Checkpoint* vision, int mtp_layers, Findings& findings);

struct KeptFiles {
  std::vector<KeptFile> files;
  std::string new_file;  ///< a name for what is added to the model
};

/// The files of arrays that a directory made of `base` takes over. A model in one file becomes the first of two shards, by whose
/// names loaders know them, when something is added to it; others keep their names.
KeptFiles kept_files(const Checkpoint& base, bool adds_to_model);

/// The width in which the vision tower of a checkpoint ends. Throws Error{not_found} when nothing tells it.
std::int64_t vision_width(const Checkpoint& checkpoint);

/// Makes the keys of a GGUF model without MTP layers, announced or not, speak of `layers` behind its blocks.
void announce_mtp(Metadata& keys, int layers);

/// The column orders that `from` records, which an adapter shares.
void copy_permutations(const Metadata& from, Metadata& to);

/// general.size_label of a dense model, where there is one, by the tensors that are written.
void update_size_label(const Architecture& architecture, PlannedOutput& output);

}  // namespace regauge
