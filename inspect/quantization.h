#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "ir/checkpoint.h"

namespace regauge::inspect {

/// What a checkpoint's own quantization section says; a field of a wrong type counts as absent, because describing a
/// strange file is what inspect is for.
struct QuantizationClaims {
  std::optional<std::int64_t> bits;
  std::optional<std::int64_t> group_size;
  std::optional<bool> sym;
  std::optional<bool> desc_act;
  std::string method;             ///< "gptq"; empty when not said
  std::string checkpoint_format;  ///< "gptq", "gptq_v2", "marlin"; empty when not said
  std::string mode;               ///< of MLX: "affine", "mxfp4"; empty when not said
  std::string quantizer;          ///< "gptqmodel:7.3.4"; empty when not said
  std::size_t overrides = 0;      ///< rules or modules with parameters of their own
};

QuantizationClaims read_claims(const Checkpoint& checkpoint);

/// One line for people: "GPTQ 4-bit, group 128, symmetric, act-order; gptqmodel:7.3.4". Empty without a section.
std::string describe(const Checkpoint& checkpoint);

}  // namespace regauge::inspect
