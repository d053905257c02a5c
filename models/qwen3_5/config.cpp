#include "models/qwen3_5/config.h"

#include <cmath>

#include "base/error.h"

namespace regauge::qwen3_5 {

std::int64_t bounded(std::int64_t value, std::string_view key, std::int64_t max) {
  if (value < 1 || value > max) {
    throw Error(ErrorCode::malformed, "'{}' is {}, outside of 1 to {}", key, value, max).tensor(key);
  }
  return value;
}

namespace {

void check_text(const Config& config) {
  if (config.full.size() != static_cast<std::size_t>(config.layers)) {
    throw Error(ErrorCode::malformed, "{} layers but {} layer types", config.layers, config.full.size());
  }
  if (config.layers + config.mtp_layers > kMaxLayers) {
    throw Error(ErrorCode::malformed, "{} layers and {} MTP layers, more than {}", config.layers, config.mtp_layers,
                kMaxLayers);
  }
  if (config.heads % config.kv_heads != 0) {
    throw Error(ErrorCode::malformed, "{} attention heads cannot share {} key-value heads", config.heads,
                config.kv_heads);
  }
  if (config.value_heads % config.key_heads != 0) {
    throw Error(ErrorCode::malformed, "{} value heads cannot share {} key heads", config.value_heads, config.key_heads);
  }
  if (config.moe && (config.layers + config.mtp_layers) * config.experts > kMaxExpertBlocks) {
    throw Error(ErrorCode::malformed, "{} experts in {} layers, more than {} altogether", config.experts,
                config.layers + config.mtp_layers, kMaxExpertBlocks);
  }
  if (config.moe && config.experts_used > config.experts) {
    throw Error(ErrorCode::malformed, "{} experts are used out of {}", config.experts_used, config.experts);
  }
  if (!(std::isfinite(config.eps) && config.eps > 0)) {
    throw Error(ErrorCode::malformed, "rms_norm_eps is {}", config.eps);
  }
  if (!(std::isfinite(config.theta) && config.theta > 0)) {
    throw Error(ErrorCode::malformed, "rope_theta is {}", config.theta);
  }
  if (!(config.partial_rotary > 0 && config.partial_rotary <= 1)) {
    throw Error(ErrorCode::malformed, "partial_rotary_factor is {}", config.partial_rotary);
  }
}

}  // namespace

void check_consistent(const Config& config) {
  if (config.text && config.sizes_known) check_text(config);
  if (config.vision && config.vision->hidden % config.vision->heads != 0) {
    throw Error(ErrorCode::malformed, "a vision width of {} cannot be split into {} heads", config.vision->hidden,
                config.vision->heads);
  }
}

}  // namespace regauge::qwen3_5
