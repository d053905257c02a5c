#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace regauge::testing {

/// An array of a checkpoint that has a header and no data: what lies on disk is a hole, `first_row` aside.
struct ShapedArray {
  std::string name;
  std::string dtype;  ///< as safetensors spells it
  std::vector<std::int64_t> shape;
  std::uint32_t first_row = 0;  ///< this word fills the first row of an I32 array; 0 leaves the hole

  std::uint64_t elements() const;
  std::uint64_t bytes() const;
};

/// How a Qwen3.5 of the published 27B size is stored. Nothing of the library under test takes part in making it.
struct ShapesRecipe {
  enum class Storage { bf16, gptq, mlx };

  Storage storage = Storage::bf16;
  int layers = 64;              ///< of which every fourth has full attention
  std::int64_t vocab = 248320;  ///< rows of embedding and head
  bool vision = true;
  bool mtp = true;
  bool desc_act = true;  ///< GPTQ
  int group = 128;
  // Bits of the quantized modules; 0 leaves them BF16. GPTQ quantizes attention, qkv, z, out and the MLP only.
  int attention = 4;
  int deltanet_in = 4;   ///< in_proj_qkv and in_proj_z; MLX also in_proj_b and in_proj_a
  int deltanet_out = 4;  ///< out_proj
  int mlp = 4;
  int embedding = 0;  ///< MLX: embed_tokens and lm_head
  int eora_rank = 0;  ///< F16 factors of this rank on every GPTQ module, in a folder eora/
};

/// One checkpoint directory: what its shards and its configuration say.
struct ModelShapes {
  std::vector<ShapedArray> arrays;
  std::vector<ShapedArray> adapter;  ///< arrays of eora/adapter_model.safetensors
  nlohmann::ordered_json config;

  /// Bytes of all arrays, the adapter's included.
  std::uint64_t bytes() const;
};

/// Names, shapes and types of Qwen/Qwen3.5-27B (its index and config.json) as `recipe` stores them: GPTQ v1 as GPTQModel
/// writes it, MLX as mlx-lm does, except that linear_attn.norm stays F32 as in the source.
ModelShapes make_qwen35_27b(const ShapesRecipe& recipe);

/// Writes shards, index, config.json and adapter below `folder`, which must exist: real headers over sparse files of the right
/// size. The directory takes a few megabytes of disk whatever it claims to hold.
void write_sparse_checkpoint(const std::filesystem::path& folder, const ModelShapes& shapes, int shards);

}  // namespace regauge::testing
