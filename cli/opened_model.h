#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "convert/adapt.h"
#include "formats/format.h"

namespace regauge::cli {

/// A checkpoint and what goes with it: several paths that are one model. An adapter (a PEFT or MLX directory, a GGUF LoRA
/// file) gives its factors to the first of them.
class OpenedModel {
 public:
  enum class Adapters : std::uint8_t {
    attach,      ///< factors become parts of the weights they correct
    keep_apart,  ///< an adapter stays a path of its own
  };

  enum class Norms : std::uint8_t {
    by_data,       ///< stored as their numbers say
    as_announced,  ///< stored as names and shapes say
  };

  /// Opens `paths`, the first one with `options`, whose adapter may be one of any ecosystem. Throws what open_checkpoint()
  /// and attach_adapter() throw.
  /// `assets` is a directory whose config.json counts where the first path's makes no sense; empty: none.
  explicit OpenedModel(const std::vector<std::string>& paths, const OpenOptions& options = {},
                       Adapters adapters = Adapters::attach, Norms norms = Norms::by_data, std::string assets = {});

  const std::vector<OpenedPath>& paths() const noexcept { return paths_; }
  const Checkpoint& first() const noexcept { return *checkpoints_.front(); }
  /// Whether any of its configurations describes a vision tower.
  bool has_vision() const;
  /// Whether any of its tensors is of an MTP layer.
  bool has_mtp() const;
  /// Whether any weight has low-rank factors.
  bool has_factors() const;

  enum class Telling : std::uint8_t { quiet, note };
  /// Takes what lies beside a GGUF model, mmproj-NAME.gguf, mtp-NAME.gguf and NAME-LoRA.gguf, when `other` has a vision
  /// tower, an MTP layer or factors and this has not.
  void take_parts_like(const OpenedModel& other, Telling telling);
  /// Takes the file beside a GGUF model that holds its `kind`, when it is there; says so. False when nothing was taken.
  bool take_beside(OutputKind kind, Telling telling);
  /// Adds one more path. Of an MTP draft file nothing but the MTP layer counts.
  void add(const std::string& path);

 private:
  void open_first(const std::string& path, const OpenOptions& options);
  void attach(Checkpoint adapter);
  std::unique_ptr<const Architecture> recognise_first(Checkpoint& model, Findings& findings) const;
  std::unique_ptr<const Architecture> recognise(const Checkpoint& checkpoint, Findings& findings) const;

  std::string first_;
  Adapters adapters_;
  Norms norms_;
  std::string assets_;
  std::vector<std::unique_ptr<Checkpoint>> checkpoints_;
  std::vector<std::unique_ptr<const Architecture>> architectures_;
  std::vector<OpenedPath> paths_;
};

}  // namespace regauge::cli
