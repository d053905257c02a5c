#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/patch.h"

namespace regauge::testing {

/// A PEFT adapter made without the library under test, its numbers at random.
struct MadeAdapter {
  std::vector<SafetensorsPatch::Array> arrays;  ///< A [r, K] and B [N, r] of each module in turn

  /// Factors for a weight of [n, k] ("model.layers.0.mlp.up_proj"); none for rank 0. BF16, or F16 or F32.
  void add(const std::string& module, std::int64_t n, std::int64_t k, std::int64_t rank,
           const std::string& dtype = "BF16");
  /// The factors of `module`; `factor` is 'A' or 'B'.
  const SafetensorsPatch::Array& factor(const std::string& module, char factor) const;
  /// W + B * A: in f64, components in order, rounded once. `weight` is [n, k].
  std::vector<float> merged(const std::string& module, const std::vector<float>& weight) const;

  /// Writes adapter_model.safetensors and adapter_config.json into `folder`, which must exist.
  void write(const std::filesystem::path& folder) const;
};

/// One for golden/qwen35_tiny_moe: on all experts of layers 0 and 3 (expert e has rank ranks[e]), and on a shared expert,
/// a DeltaNet output and an attention query at rank 8.
MadeAdapter adapter_of_tiny_moe(const std::vector<std::int64_t>& ranks);

/// The numbers of an array of BF16, F16 or F32.
std::vector<float> numbers_of(const SafetensorsPatch::Array& array);

}  // namespace regauge::testing
