#pragma once

#include <cstdint>
#include <string>

namespace regauge {

/// general.size_label as llama.cpp's converter writes it: "752M", "9.4B", "27B", two significant digits.
/// Source: ggml-org/llama.cpp gguf-py/gguf/utility.py, model_weight_count_rounded_notation.
std::string size_label(std::int64_t parameters);

/// Of a mixture of experts: "256x2.6B", the number of experts times what is shared plus one expert.
std::string size_label(std::int64_t experts, std::int64_t shared, std::int64_t one_expert);

}  // namespace regauge
