#pragma once

#include <cstddef>
#include <optional>
#include <set>
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
  bool renames = false;             ///< the config is of another class than the base's, with other names of tensors

  /// Adds the configuration of an adapter that `factors` makes.
  void add_adapter(const Adaptation& factors);
  /// The files of `output`, a directory made of `base`: quantization configs with what they have to say of the modules whose
  /// steps begin at `first_new`, and nothing of those of `replaced` parts. Throws Error{unsupported} where the format cannot say it.
  std::vector<CarriedFile> finish(const Format& format, const Checkpoint& base, const Architecture& architecture,
                                  const PlannedOutput& output, std::size_t first_new,
                                  const std::set<Component>& replaced) &&;
};

/// Those of `base` with `mtp_layers` announced and, with a donor of a vision tower, what describes it; of a text-only class those
/// of the multimodal one. `replaces` says that the donor's description takes the place of the base's. Throws Error{not_found}
/// for a donor without a description.
GraftedFiles grafted_files(const Checkpoint& base, const Checkpoint* vision, int mtp_layers, bool replaces,
                           Findings& findings);

struct KeptFiles {
  std::vector<KeptFile> files;
  std::string new_file;  ///< a name for what is added to the model
};

/// The files of arrays that a directory made of `base` takes over: all but `rewritten`, by index. A model in one file becomes the
/// first of two shards, by whose names loaders know them, when something is added to it; others keep their names.
KeptFiles kept_files(const Checkpoint& base, bool adds_to_model, const std::set<std::size_t>& rewritten);

/// What has to be written anew, so that parts of a directory can make way.
struct Rewritten {
  std::set<std::size_t> files;         ///< of the base, by index
  std::vector<const Tensor*> tensors;  ///< in them, and of no replaced part
};

/// The files with arrays of `replaced` parts, and those that share a tensor with them. Throws Error{unsupported} for what no
/// tensor says how to write again.
Rewritten files_with(const Checkpoint& base, const Architecture& architecture, const std::set<Component>& replaced);

/// The width in which the vision tower of a checkpoint ends. Throws Error{not_found} when nothing tells it.
std::int64_t vision_width(const Checkpoint& checkpoint);

/// Makes the keys of a GGUF model without MTP layers, announced or not, speak of `layers` behind its blocks.
void announce_mtp(Metadata& keys, int layers);

/// The column orders that `from` records, which an adapter shares.
void copy_permutations(const Metadata& from, Metadata& to);

/// general.size_label of a dense model, where there is one, by the tensors that are written.
void update_size_label(const Architecture& architecture, PlannedOutput& output);

}  // namespace regauge
