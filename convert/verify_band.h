#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "convert/bands.h"
#include "ir/decode/tensor.h"

namespace regauge {

/// How far a band or tensor was held against the source.
enum class Checked : std::uint8_t {
  no,
  bytes,   ///< what was put is what is there; no values can be made of it
  values,  ///< and its values are the source's as far as was promised
};

/// What one worker needs to check bands, used again from band to band.
struct CheckBuffers {
  std::vector<Buffer<std::byte>> stored;
  Buffer<float> found;
  Buffer<float> expected;
};

/// Holds finished bands against their source. Safe from any thread, each with its own buffers.
class BandVerifier {
 public:
  /// `plan` must outlive it.
  explicit BandVerifier(const Plan& plan);

  /// How far bands of this step can be checked.
  Checked reach(std::size_t output, std::size_t step) const {
    return references_[output][step] ? Checked::values : Checked::bytes;
  }

  /// Reads the band back from `writer`, where its first array is `first_array`, compares it with the bytes `made`, and its
  /// values, decoded by the route, with those of the source in the target's convention: every one equal where the step
  /// promised bytes or values, else none further off than `loss` says. Where the convention takes the source's effective
  /// form back (w of a stored 1 + w), a value is right too when it gives exactly that form. Throws Error{internal} naming the row and both.
  void check(const Band& band, const Writer& writer, std::size_t first_array, StoredBuffers made, const Loss& loss,
             Scratch& scratch, CheckBuffers& buffers) const;

 private:
  void read_back(const Band& band, const Writer& writer, std::size_t first_array, StoredBuffers made,
                 CheckBuffers& buffers) const;

  /// The source of one step, its values not yet changed by the target's convention.
  struct Reference {
    Target target;
    Elementwise change = Elementwise::none;
    RowMakerPtr maker;
  };
  using ReferencePtr = std::unique_ptr<const Reference>;

  static ReferencePtr reference_to(const Target& target);

  const Plan& plan_;
  std::vector<std::vector<ReferencePtr>> references_;  // null where no values can be made
};

}  // namespace regauge
