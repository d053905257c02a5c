#include <array>

#include "verify/doctor.h"

namespace regauge {
namespace {

// A chart takes no others, so that none can be told that docs/doctor.md does not explain.
constexpr std::array kCodes{
    std::string_view("act-order"),
    std::string_view("act-order-undeclared"),
    std::string_view("alignment-not-32"),
    std::string_view("array-twice"),
    std::string_view("config-malformed"),
    std::string_view("container-part-damaged"),
    std::string_view("conv-layout-mixed"),
    std::string_view("conv-layout-mlx"),
    std::string_view("data-unread"),
    std::string_view("eos-from-config"),
    std::string_view("f32-pair-cast"),
    std::string_view("f32-pair-half-cast"),
    std::string_view("file-empty"),
    std::string_view("file-foreign"),
    std::string_view("file-malformed"),
    std::string_view("file-truncated"),
    std::string_view("fusion-mixed"),
    std::string_view("gguf-key-missing"),
    std::string_view("gguf-key-type"),
    std::string_view("gguf-not-f32"),
    std::string_view("gguf-type-unusable"),
    std::string_view("gguf-version"),
    std::string_view("gptq-bits-mismatch"),
    std::string_view("gptq-config-missing"),
    std::string_view("gptq-dense-not-excluded"),
    std::string_view("gptq-excluded-quantized"),
    std::string_view("gptq-format-planar"),
    std::string_view("gptq-group-mismatch"),
    std::string_view("gptq-head-dense"),
    std::string_view("gptq-rule-unused"),
    std::string_view("gptq-rules-miss-fused"),
    std::string_view("gptq-zeros-mislabelled"),
    std::string_view("gptq-zeros-mixed"),
    std::string_view("html-page"),
    std::string_view("index-array-absent"),
    std::string_view("index-tensor-unlisted"),
    std::string_view("index-wrong-shard"),
    std::string_view("lfs-pointer"),
    std::string_view("mlx-config-missing"),
    std::string_view("mlx-defaults-missing"),
    std::string_view("mlx-head-tied-but-stored"),
    std::string_view("mlx-mtp-in-model"),
    std::string_view("mlx-override-dense"),
    std::string_view("mlx-override-renamed"),
    std::string_view("mlx-override-unused"),
    std::string_view("mlx-quantization-key"),
    std::string_view("mlx-scales-missing"),
    std::string_view("mlx-width-unknown"),
    std::string_view("mmproj-empty"),
    std::string_view("mtp-announced-absent"),
    std::string_view("mtp-undeclared"),
    std::string_view("norms-not-shifted"),
    std::string_view("norms-shifted-twice"),
    std::string_view("not-finite"),
    std::string_view("pre-tokenizer-old"),
    std::string_view("shard-missing"),
    std::string_view("shard-unlisted"),
    std::string_view("tensor-extra"),
    std::string_view("tensor-missing"),
    std::string_view("tensor-repeated"),
    std::string_view("tensor-wrong-shape"),
    std::string_view("token-twice"),
    std::string_view("tokenizer-arrays-unequal"),
    std::string_view("tokenizer-missing"),
    std::string_view("vision-announced-absent"),
    std::string_view("vision-undeclared"),
};

}  // namespace

std::span<const std::string_view> ailment_codes() { return kCodes; }

}  // namespace regauge
