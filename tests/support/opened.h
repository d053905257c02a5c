#pragma once

#include <filesystem>
#include <memory>

#include "convert/adapt.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "models/low_rank.h"

namespace regauge::testing {

/// A checkpoint and what it is of, as a program opens them.
struct Opened {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<const Architecture> architecture;

  explicit Opened(const std::filesystem::path& path, const OpenOptions& options = {})
      : checkpoint(std::make_unique<Checkpoint>(open_checkpoint(path, options))),
        architecture(recognise(*checkpoint)) {}
  /// With the low-rank factors of `adapter`.
  Opened(const std::filesystem::path& path, const std::filesystem::path& adapter) : Opened(path) { attach(adapter); }

  OpenedPath path() const { return {checkpoint.get(), architecture.get(), std::nullopt}; }
  void attach(const std::filesystem::path& adapter) {
    attach_adapter(*checkpoint, *architecture, open_checkpoint(adapter));
  }
};

inline Report convert(const Opened& source, const std::filesystem::path& target, const ConvertOptions& options) {
  const Plan plan = plan_conversion(*source.checkpoint, source.architecture.get(), target, options);
  return execute(plan, *source.checkpoint, options);
}

}  // namespace regauge::testing
