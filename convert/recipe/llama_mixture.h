#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ir/dtype.h"
#include "ir/ggml_type.h"
#include "ir/shape.h"

namespace regauge {

/// One of the names that llama-quantize knows: a type for most tensors and rules for the others.
struct LlamaFileType {
  std::string_view name;                 ///< "Q4_K_M"
  std::uint32_t id = 0;                  ///< llama_ftype: general.file_type
  std::variant<DType, BlockType> usual;  ///< of tensors that no rule names
};

/// Those that we can write, in the order of llama-quantize's help.
std::span<const LlamaFileType> llama_file_types();
/// By name in any case; "Q3_K", "Q4_K" and "Q5_K" are the M mixtures, as there. Null when there is none.
const LlamaFileType* find_llama_file_type(std::string_view name);

/// A tensor of a GGUF file as the rules see it.
struct MixtureTensor {
  std::string_view name;
  Shape shape;  ///< logical: the last dimension is ggml's ne0
};

/// What the rules ask of the model.
struct MixtureModel {
  std::int64_t blocks = 0;  ///< block_count, MTP blocks included
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t experts = 0;
  bool importance = false;  ///< an importance matrix is used
};

/// Whether llama-quantize changes the type of this tensor at all: matrices named "...weight", norms, routers, convolutions
/// and position embeddings aside. Source: ggml-org/llama.cpp src/llama-quant.cpp, checked against llama_model_quantize.
bool mixture_takes(std::string_view name, const Shape& shape);

/// The types that llama_model_quantize gives the tensors of one file, in any order; nothing where it leaves the type as it
/// is. `tensors` are all of the file: some rules count.
std::vector<std::optional<std::variant<DType, BlockType>>> mixture_types(const LlamaFileType& file_type,
                                                                         std::span<const MixtureTensor> tensors,
                                                                         const MixtureModel& model);

/// The order in which llama_model_quantize writes the tensors of one file, as numbers of `names`: those outside of blocks,
/// then by block and name.
std::vector<std::size_t> llama_order(std::span<const std::string_view> names);

}  // namespace regauge
