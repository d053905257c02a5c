#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace regauge {

/// Which source index each output index takes, along one axis, as runs of neighbours. A permutation of whole heads is a
/// handful of runs, so composing, inverting and asking "do groups of 32 stay whole?" cost next to nothing.
class AxisMap {
 public:
  struct Run {
    std::int64_t begin = 0;  ///< first source index
    std::int64_t length = 0;
    bool operator==(const Run&) const = default;
  };

  /// Output i takes source i, for i in [0, size).
  static AxisMap identity(std::int64_t size);
  /// The runs one after another; neighbours that join are joined. Throws Error{internal} on a negative run.
  explicit AxisMap(const std::vector<Run>& runs);

  const std::vector<Run>& runs() const noexcept { return runs_; }
  std::int64_t size() const noexcept { return size_; }
  bool is_identity(std::int64_t source_size) const;
  std::int64_t operator[](std::int64_t output) const;
  /// Every index written out; for inner loops.
  std::vector<std::int64_t> indices() const;

  /// The map that takes this one's output as its source: result[i] = (*this)[next[i]].
  AxisMap then(const AxisMap& next) const;
  /// The permutation that undoes this one; nothing when this is no permutation of [0, size()).
  std::optional<AxisMap> inverse() const;
  /// The part [begin, begin + count) of the outputs.
  AxisMap slice(std::int64_t begin, std::int64_t count) const;
  /// Whether every aligned run of `unit` outputs is an aligned run of `unit` sources: groups of that width stay whole.
  bool keeps_units(std::int64_t unit) const;

  bool operator==(const AxisMap&) const = default;

 private:
  std::vector<Run> runs_;
  std::vector<std::int64_t> starts_;  ///< first output index of each run
  std::int64_t size_ = 0;
};

}  // namespace regauge
