#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "ir/checkpoint.h"

namespace regauge::qwen3_5 {

/// Most decoder layers, MTP included. Source: ggml-org/llama.cpp src/llama-hparams.h, LLAMA_MAX_LAYERS.
inline constexpr std::int64_t kMaxLayers = 512;
/// Most MTP layers; published checkpoints have one.
inline constexpr std::int64_t kMaxMtpLayers = 16;
/// Most experts of a layer; the largest published model has 512.
inline constexpr std::int64_t kMaxExperts = 4096;
/// Most experts of all layers together: bounds the list of expected weights. The largest published model has 31,232.
inline constexpr std::int64_t kMaxExpertBlocks = std::int64_t{1} << 17;

/// The vision tower, in the words of `vision_config`.
struct VisionConfig {
  std::int64_t depth = 0;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t heads = 0;
  std::int64_t channels = 3;
  std::int64_t patch = 16;
  std::int64_t merge = 2;
  std::int64_t positions = 2304;
  std::int64_t out_hidden = 0;
  std::optional<std::int64_t> image_size;  ///< pixels of the square that `positions` covers, when the source says so
  bool deepstack = false;                  ///< Qwen3-VL has such mergers, Qwen3.5 has none

  std::int64_t patch_elements() const { return channels * patch * patch; }
  std::int64_t merged() const { return merge * merge * hidden; }
};

/// Frames that one patch spans: the patch kernel has this many temporal slices.
/// Source: ggml-org/llama.cpp conversion/qwen3vl.py splits it in two and knows no other number.
inline constexpr std::int64_t kTemporalPatch = 2;

/// Stretching of the rotary positions; `type` is empty when there is none.
struct RopeScaling {
  std::string type;
  std::optional<double> factor;
  std::optional<std::int64_t> original_context;
  std::optional<double> extrapolation_factor;
  std::optional<double> attention_factor;
  std::optional<double> beta_fast;
  std::optional<double> beta_slow;
};

/// Everything that shapes, names and keys depend on, read from config.json or GGUF keys and checked: every size lies in
/// its bounds, so products of any four of them with a layer count fit an int64.
struct Config {
  bool moe = false;
  bool text = true;         ///< false for an mmproj file, which describes the vision tower alone
  bool sizes_known = true;  ///< false for an adapter file, which names an architecture and no size

  std::int64_t layers = 0;  ///< of the decoder, without MTP
  std::int64_t hidden = 0;
  std::int64_t vocab = 0;
  std::int64_t intermediate = 0;  ///< 0 in MoE models
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  bool output_gate = true;  ///< q_proj carries a gate of the query's size
  std::int64_t key_heads = 0;
  std::int64_t value_heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;
  std::int64_t conv = 0;
  std::int64_t interval = 4;  ///< full_attention_interval
  std::vector<bool> full;     ///< per decoder layer: full attention, else Gated DeltaNet

  std::int64_t experts = 0;
  std::int64_t experts_used = 0;
  std::int64_t moe_intermediate = 0;
  std::int64_t shared_intermediate = 0;

  std::int64_t mtp_layers = 0;  ///< announced
  bool tied = false;
  std::int64_t context = 0;
  double eps = 1e-6;
  double theta = 1e7;
  double partial_rotary = 0.25;
  std::vector<std::int64_t> mrope;  ///< empty when the source does not say
  RopeScaling scaling;

  std::optional<VisionConfig> vision;

  /// Values that the source left out and that were filled in; for reports of conversions that depend on them.
  Findings guesses;

  std::int64_t key_width() const { return key_heads * key_dim; }
  std::int64_t value_width() const { return value_heads * value_dim; }
  /// Channels of in_proj_qkv and of the convolution: queries, keys, values.
  std::int64_t conv_channels() const { return 2 * key_width() + value_width(); }
  std::int64_t query_rows() const { return (output_gate ? 2 : 1) * heads * head_dim; }
};

/// Reads config.json: `text_config` over the root, or a flat text-only file. Throws Error{malformed} for a missing
/// size, a wrong type or a size out of bounds, Error{unsupported} for what no published checkpoint has (dense layers in
/// a MoE model).
Config config_from_json(const Json& json, bool moe);

/// Reads the keys of a model, mmproj ("clip") or adapter file. Throws as above.
Config config_from_gguf(const Checkpoint& checkpoint, std::string_view architecture);

/// What no single key can tell: heads that divide each other, a list of the right length, a bounded number of experts.
/// Throws Error{malformed}. Every reader ends with it.
void check_consistent(const Config& config);

/// `value` when it lies in [1, max]. Throws Error{malformed} naming `key`.
std::int64_t bounded(std::int64_t value, std::string_view key, std::int64_t max);

}  // namespace regauge::qwen3_5
