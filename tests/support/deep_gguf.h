#pragma once

#include <cstdint>
#include <filesystem>

namespace regauge::testing {

/// What rules of quantizers look at.
struct DeepShape {
  int layers = 32;  ///< decoder blocks; one MTP block follows
  std::int64_t kv_heads = 2;
  bool tied = false;  ///< no output.weight
};

/// Writes a BF16 GGUF of a narrow Qwen3.5 with as many blocks as asked for and no tokenizer: for rules that count layers.
/// The same bytes for the same arguments.
void write_deep_gguf(const std::filesystem::path& out, const DeepShape& shape);

}  // namespace regauge::testing
