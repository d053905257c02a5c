#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "convert/bands.h"
#include "convert/plan.h"

namespace regauge {

/// XXH3-128 of what an output's arrays store.
struct StoredDigests {
  std::vector<std::pair<std::string, Digest128>> arrays;  ///< by name, in the order of the plan
  Digest128 together;                                     ///< of all their bytes in that order
};

/// Digests outputs while they are made. What arrives in pieces of another order than that of the arrays (several arrays a
/// tensor, transposed ones) or was there before cannot be digested so and has to be read again.
class DigestingOutputs {
 public:
  explicit DigestingOutputs(const Plan& plan);

  /// Takes the bands in the order of the plan, one at a time.
  void add(const Band& band, BandBuffers made);
  /// A band that an earlier run has written: its bytes are not at hand.
  void pass_over(const Band& band) { outputs_[band.output].reset(); }

  /// Nothing for outputs that have to be read again. All bands have been added.
  std::optional<StoredDigests> of(std::size_t output) const;

 private:
  struct Running {
    Xxh3_128 together;
    Xxh3_128 array;
    std::vector<std::pair<std::string, Digest128>> finished;
  };

  const Plan& plan_;
  std::vector<std::optional<Running>> outputs_;
};

}  // namespace regauge
