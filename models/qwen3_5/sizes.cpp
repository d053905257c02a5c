#include "models/qwen3_5/sizes.h"

#include <algorithm>
#include <array>

namespace regauge::qwen3_5 {
namespace {

// 27B, 35B-A3B and 397B-A17B by their config.json; the other dense ones and 122B-A10B as NVIDIA's model optimizer and
// ai-dynamo/aiconfigurator model_configs/ give them.
constexpr std::array kSizes{
    PublishedSize{"0.8B", false, 24, 1024, 3584, 8, 2, 16, 0},
    PublishedSize{"2B", false, 24, 2048, 6144, 8, 2, 16, 0},
    PublishedSize{"4B", false, 32, 2560, 9216, 16, 4, 32, 0},
    PublishedSize{"9B", false, 32, 4096, 12288, 16, 4, 32, 0},
    PublishedSize{"27B", false, 64, 5120, 17408, 24, 4, 48, 0},
    PublishedSize{"35B-A3B", true, 40, 2048, 512, 16, 2, 32, 256},
    PublishedSize{"122B-A10B", true, 48, 3072, 1024, 32, 2, 64, 256},
    PublishedSize{"397B-A17B", true, 60, 4096, 1024, 32, 2, 64, 512},
};

}  // namespace

std::span<const PublishedSize> published_sizes() { return kSizes; }

const PublishedSize* find_published(const Config& config) {
  const auto found = std::ranges::find_if(kSizes, [&](const PublishedSize& size) {
    return size.moe == config.moe && size.layers == config.layers && size.hidden == config.hidden &&
           size.intermediate == (config.moe ? config.moe_intermediate : config.intermediate) &&
           size.heads == config.heads && size.kv_heads == config.kv_heads && size.value_heads == config.value_heads &&
           size.experts == config.experts && config.key_heads == 16 && config.head_dim == 256;
  });
  return found == kSizes.end() ? nullptr : &*found;
}

}  // namespace regauge::qwen3_5
