#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "ir/checkpoint.h"
#include "tests/support/gguf_keys.h"
#include "tests/support/golden.h"

// Checkpoints for the tests of models/, made without the readers of formats/, which may not be used there: only what an
// architecture looks at is filled in, which are names, shapes, keys, configuration and side files.
namespace regauge::testing {

/// A dense model with every kind of weight: 4 layers, 2 key and 6 value heads, one MTP layer, a vision tower of 2
/// blocks.
inline Json tiny_config() {
  return parse_json(R"({
    "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "tie_word_embeddings": false,
    "text_config": {
      "model_type": "qwen3_5_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
      "vocab_size": 320,
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "linear_num_key_heads": 2,
      "linear_num_value_heads": 6, "linear_key_head_dim": 32, "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4,
      "full_attention_interval": 4, "max_position_embeddings": 256, "rms_norm_eps": 1e-06, "mtp_num_hidden_layers": 1,
      "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
      "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.5,
                          "mrope_section": [3, 3, 2]}},
    "vision_config": {"depth": 2, "hidden_size": 32, "intermediate_size": 40, "num_heads": 4, "in_channels": 3,
                      "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16,
                      "out_hidden_size": 64, "deepstack_visual_indexes": []}})",
                    "config.json");
}

/// The same with 8 experts in place of the MLP.
inline Json tiny_moe_config() {
  Json config = tiny_config();
  config["architectures"] = {"Qwen3_5MoeForConditionalGeneration"};
  config["model_type"] = "qwen3_5_moe";
  Json& text = config["text_config"];
  text["model_type"] = "qwen3_5_moe_text";
  text.erase("intermediate_size");
  text["num_experts"] = 8;
  text["num_experts_per_tok"] = 3;
  text["moe_intermediate_size"] = 48;
  text["shared_expert_intermediate_size"] = 80;
  return config;
}

inline Checkpoint checkpoint_of(Json config, Dialect dialect = Dialect::hf) {
  Checkpoint checkpoint;
  checkpoint.path = "memory";
  checkpoint.dialect = dialect;
  checkpoint.config = std::move(config);
  return checkpoint;
}

inline void add_tensor(Checkpoint& checkpoint, std::string name, Shape shape) {
  Tensor& tensor = checkpoint.tensors.emplace_back();
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
}

/// Sidecars of a folder: every file in it that holds no tensors.
inline void add_sidecars(Checkpoint& checkpoint, const std::filesystem::path& folder) {
  checkpoint.folder = disk_folder(folder);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().extension() == ".safetensors") continue;
    Sidecar& sidecar = checkpoint.sidecars.emplace_back();
    sidecar.name = std::filesystem::relative(entry.path(), folder).string();
    sidecar.bytes = entry.file_size();
  }
  std::ranges::sort(checkpoint.sidecars, {}, &Sidecar::name);
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

/// A golden directory. Of GPTQ and MLX modules one logical weight is listed, with the shape that the golden files' own
/// group size (64 in every MLX directory there) and scales imply.
inline Checkpoint read_directory(const std::filesystem::path& folder, Dialect dialect) {
  const auto bytes = read_whole_file(folder / "config.json");
  Checkpoint checkpoint =
      checkpoint_of(parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "config.json"), dialect);
  checkpoint.path = folder.string();
  add_sidecars(checkpoint, folder);
  std::vector<std::filesystem::path> shards;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") shards.push_back(entry.path());
  }
  std::ranges::sort(shards);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& shard : shards) {
    const GoldenFile file(shard);
    for (const auto& [name, entry] : file.entries()) shapes[name] = entry.shape;
  }
  for (const auto& [name, shape] : shapes) {
    const auto dot = name.rfind('.');
    const std::string stem = name.substr(0, dot);
    const std::string leaf = name.substr(dot + 1);
    const bool part = leaf == "scales" || leaf == "biases" || leaf == "qzeros" || leaf == "g_idx";
    if (part && (shapes.contains(stem + ".qweight") || shapes.contains(stem + ".weight"))) continue;
    if (leaf == "qweight") {
      add_tensor(checkpoint, stem + ".weight", Shape{shape[1], shapes.at(stem + ".g_idx")[0]});
    } else if (leaf == "weight" && shapes.contains(stem + ".scales")) {
      add_tensor(checkpoint, name, Shape{shape[0], shapes.at(stem + ".scales")[1] * 64});
    } else {
      add_tensor(checkpoint, name, Shape(shape));
    }
  }
  return checkpoint;
}

/// A GGUF file: its keys, and its tensors as arrays and logical tensors alike.
inline Checkpoint read_gguf(const std::filesystem::path& path) {
  const GgufKeys keys = read_gguf_keys(path);
  Checkpoint checkpoint;
  checkpoint.path = path.string();
  checkpoint.dialect = Dialect::gguf;
  for (const Metadata::Entry& entry : keys.keys) checkpoint.metadata.set(entry.first, entry.second);
  for (const GgufKeys::Info& info : keys.tensors) {
    StoredArray& array = checkpoint.arrays.emplace_back();
    array.name = info.name;
    array.shape = Shape(info.shape);
    add_tensor(checkpoint, info.name, array.shape);
  }
  return checkpoint;
}

}  // namespace regauge::testing
