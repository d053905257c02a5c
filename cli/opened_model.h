#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "convert/adapt.h"

namespace regauge::cli {

/// A checkpoint and what goes with it: several paths that are one model.
class OpenedModel {
 public:
  /// Opens `paths`. Throws what open_checkpoint() throws.
  explicit OpenedModel(const std::vector<std::string>& paths);

  const std::vector<OpenedPath>& paths() const noexcept { return paths_; }
  /// Whether any of its configurations describes a vision tower.
  bool has_vision() const;

  enum class Telling : std::uint8_t { quiet, note };
  /// Takes the vision tower that lies beside a GGUF model as mmproj-NAME.gguf, when `other` has one and this has not.
  void take_vision_like(const OpenedModel& other, Telling telling);

 private:
  void open(const std::string& path);

  std::string first_;
  std::vector<std::unique_ptr<const Checkpoint>> checkpoints_;
  std::vector<std::unique_ptr<const Architecture>> architectures_;
  std::vector<OpenedPath> paths_;
};

}  // namespace regauge::cli
