#pragma once

#include <array>
#include <optional>
#include <vector>

#include "formats/format.h"
#include "formats/gptq/module.h"

namespace regauge::gptq {

// Which convention the zero points of a checkpoint are stored in. The label in the config is not to be trusted: files exist
// that say `gptq` (v1) and hold v2 values (vllm-project/vllm PR 38966, ModelCloud/GPTQModel PR 1972), and GPTQModel up to
// 6.0.3 wrote 3 bits by another rule. Where the model is symmetric, every zero point is the middle of the code range, so a
// few stored words decide. Opening reads the first row of qzeros of at most kSampledModules modules of each width, a few
// kilobytes each; that is the only data it reads. Asymmetric models give no evidence: there the label counts.

inline constexpr std::size_t kSampledModules = 4;

/// A module whose zero points are to be read.
struct ZerosOf {
  const Module* module = nullptr;
  Geometry geometry;
  bool sym = true;
};

/// The convention of each width, index 2 to 8.
class ZeroConventions {
 public:
  layouts::ZeroConvention operator[](int bits) const { return by_bits_.at(static_cast<std::size_t>(bits)); }
  void set(int bits, layouts::ZeroConvention convention) { by_bits_.at(static_cast<std::size_t>(bits)) = convention; }

 private:
  std::array<layouts::ZeroConvention, 9> by_bits_{};
};

/// Decides by evidence, then label; `label` other than automatic decides alone. Reads a little data, as said above. What
/// contradicts the label is a warning in `findings`.
ZeroConventions choose_conventions(const Checkpoint& checkpoint, const std::vector<ZerosOf>& modules,
                                   const Config& config, ZerosLabel label, Findings& findings);

/// The convention under which every stored field is the midpoint; nothing when there is none. `words` are whole runs of
/// zero points (gptq_zeros_quantum()).
std::optional<layouts::ZeroConvention> convention_by_evidence(layouts::GptqLayout layout,
                                                              std::span<const std::byte> words);

}  // namespace regauge::gptq
