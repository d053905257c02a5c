#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "convert/adapt.h"
#include "verify/diff.h"

namespace regauge {

/// What came back of one weight.
struct Returned {
  bool bytes = false;         ///< stored alike, byte for byte
  std::optional<bool> codes;  ///< its integer codes are the same; nothing when it had none
  bool values = false;        ///< equal as numbers

  bool operator==(const Returned&) const = default;
};

/// Weights counted together.
struct Survival {
  std::uint64_t tensors = 0;  ///< of the source
  std::uint64_t bytes = 0;
  std::uint64_t coded = 0;  ///< those that had integer codes
  std::uint64_t codes = 0;
  std::uint64_t values = 0;
  std::uint64_t missing = 0;

  void add(const Returned& one);
  std::uint64_t lost() const { return tensors - values; }
};

struct RoundTrip {
  Diff diff;                      ///< the source first
  std::vector<Returned> tensors;  ///< parallel to diff.tensors
  std::vector<std::pair<Component, Survival>> components;
  Survival whole;
  std::vector<std::string> left_out;  ///< weights that did not come back and were not meant to

  /// Every weight that was not left out on purpose came back with its values, and nothing else did.
  bool survived() const;
};

struct RoundTripOptions {
  std::vector<Component> left_out;  ///< what the conversions were told to drop
  int threads = 0;
};

/// Holds what came back against the source. Throws what opening and reading throw, Error{io} when `cancel` becomes true.
RoundTrip compare_round_trip(std::span<const OpenedPath> source, std::span<const OpenedPath> returned,
                             const RoundTripOptions& options = {}, const std::atomic<bool>* cancel = nullptr);

/// For people: by component, what was lost, and the verdict in one line. `way` are the formats, from the source's on.
std::string render_round_trip(const RoundTrip& result, const std::string& source, std::span<const std::string> way,
                              std::size_t most);

/// The document of schema "regauge.round_trip/1" (docs/json.md).
Json round_trip_to_json(const RoundTrip& result, const std::string& source, std::span<const std::string> way);

}  // namespace regauge
