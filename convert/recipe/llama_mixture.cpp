#include "convert/recipe/llama_mixture.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <numeric>
#include <tuple>

#include "convert/recipe/wish.h"

namespace regauge {
namespace {

using Element = std::variant<DType, BlockType>;

constexpr std::uint32_t kQ40 = 2;
constexpr std::uint32_t kQ50 = 8;
constexpr std::uint32_t kQ2K = 10;
constexpr std::uint32_t kQ3KS = 11;
constexpr std::uint32_t kQ3KM = 12;
constexpr std::uint32_t kQ3KL = 13;
constexpr std::uint32_t kQ4KS = 14;
constexpr std::uint32_t kQ4KM = 15;
constexpr std::uint32_t kQ5KS = 16;
constexpr std::uint32_t kQ5KM = 17;
constexpr std::uint32_t kQ2KS = 21;
constexpr std::uint32_t kIq4Nl = 25;
constexpr std::uint32_t kIq4Xs = 30;
constexpr std::uint32_t kTq10 = 36;
constexpr std::uint32_t kTq20 = 37;
constexpr std::uint32_t kMxfp4Moe = 38;
constexpr std::uint32_t kQ20 = 41;

// Numbers: ggml-org/llama.cpp include/llama.h, llama_ftype.
const std::array<LlamaFileType, 25> kFileTypes{{
    {"F32", 0, DType::f32},
    {"F16", 1, DType::f16},
    {"BF16", 32, DType::bf16},
    {"Q4_0", kQ40, BlockType::q4_0},
    {"Q4_1", 3, BlockType::q4_1},
    {"Q5_0", kQ50, BlockType::q5_0},
    {"Q5_1", 9, BlockType::q5_1},
    {"Q8_0", 7, BlockType::q8_0},
    {"Q2_K", kQ2K, BlockType::q2_K},
    {"Q2_K_S", kQ2KS, BlockType::q2_K},
    {"Q3_K_S", kQ3KS, BlockType::q3_K},
    {"Q3_K_M", kQ3KM, BlockType::q3_K},
    {"Q3_K_L", kQ3KL, BlockType::q3_K},
    {"Q4_K_S", kQ4KS, BlockType::q4_K},
    {"Q4_K_M", kQ4KM, BlockType::q4_K},
    {"Q5_K_S", kQ5KS, BlockType::q5_K},
    {"Q5_K_M", kQ5KM, BlockType::q5_K},
    {"Q6_K", 18, BlockType::q6_K},
    {"IQ4_NL", kIq4Nl, BlockType::iq4_nl},
    {"IQ4_XS", kIq4Xs, BlockType::iq4_xs},
    {"TQ1_0", kTq10, BlockType::tq1_0},
    {"TQ2_0", kTq20, BlockType::tq2_0},
    {"MXFP4_MOE", kMxfp4Moe, BlockType::mxfp4},
    {"Q1_0", 40, BlockType::q1_0},
    {"Q2_0", kQ20, BlockType::q2_0},
}};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

bool has(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

/// Values and what stands for them: the tensors that share one counter.
bool is_value_like(std::string_view name) {
  return has(name, "attn_v.weight") || has(name, "attn_qkv.weight") || has(name, "attn_kv_b.weight");
}

/// The number in "blk.N."; nothing outside of blocks.
std::optional<std::int64_t> block_of(std::string_view name) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return std::nullopt;
  std::int64_t block = 0;
  const auto [end, error] = std::from_chars(name.data() + kBlock.size(), name.data() + name.size(), block);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? std::optional(block) : std::nullopt;
}

/// The first and last eighth of n layers and every third between them.
bool deserves_more(std::int64_t i, std::int64_t n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

class Mixture {
 public:
  Mixture(const LlamaFileType& type, std::span<const MixtureTensor> tensors, const MixtureModel& model)
      : type_(type), usual_(std::get<BlockType>(type.usual)), model_(model) {
    for (const MixtureTensor& tensor : tensors) {
      values_ += is_value_like(tensor.name) ? 1 : 0;
      has_output_ = has_output_ || tensor.name == "output.weight";
    }
  }

  BlockType type_of(const MixtureTensor& tensor) {
    const std::string_view name = tensor.name;
    if (name == "output.weight" || (!has_output_ && name == "token_embd.weight")) return output(tensor);
    if (type_.id == kMxfp4Moe) return is_stack(tensor) ? BlockType::mxfp4 : BlockType::q8_0;
    if (name == "token_embd.weight") {
      const bool is_tiny = type_.id == kTq10 || type_.id == kTq20 || type_.id == kQ20;
      return is_tiny ? BlockType::q4_K : usual_;
    }
    if (is_value_like(name)) return value(value_seen_++);
    if (has(name, "attn_k.weight") && model_.experts == 8) return BlockType::q8_0;
    if (has(name, "attn_output.weight")) return attention_output();
    if (has(name, "ffn_down")) {
      const std::int64_t running = down_seen_++;
      return down(model_.experts > 0 ? block_of(name).value_or(running) : running);
    }
    return usual_;
  }

 private:
  static bool is_stack(const MixtureTensor& tensor) {
    return tensor.shape.rank() > 2 && tensor.shape.dims[tensor.shape.rank() - 3] > 1;
  }

  BlockType output(const MixtureTensor& tensor) const {
    if (type_.id == kMxfp4Moe || tensor.shape.columns() % block_elements(usual_) != 0) return BlockType::q8_0;
    return usual_ == BlockType::q8_0 ? BlockType::q8_0 : BlockType::q6_K;
  }

  BlockType value(std::int64_t i) const {
    if (model_.experts == 8) return BlockType::q8_0;
    const bool shared = model_.kv_heads != 0 && model_.heads / model_.kv_heads >= 4;
    switch (type_.id) {
      case kQ2K: return shared ? BlockType::q4_K : BlockType::q3_K;
      case kQ2KS: return shared ? BlockType::q4_K : usual_;
      case kQ3KM: return i < 2 ? BlockType::q5_K : BlockType::q4_K;
      case kQ3KL: return BlockType::q5_K;
      case kIq4Nl:
      case kIq4Xs: return shared ? BlockType::q5_K : usual_;
      case kQ4KS: return i < 4 ? BlockType::q5_K : usual_;
      case kQ4KM:
      case kQ5KM: return deserves_more(i, values_) ? BlockType::q6_K : usual_;
      default: return usual_;
    }
  }

  BlockType attention_output() const {
    if (model_.experts == 8) {
      static constexpr std::array<std::uint32_t, 7> kRaised{kQ2K, kQ3KS, kQ3KM, kQ4KS, kQ4KM, kIq4Nl, kIq4Xs};
      return std::ranges::find(kRaised, type_.id) != kRaised.end() ? BlockType::q5_K : usual_;
    }
    switch (type_.id) {
      case kQ2K: return BlockType::q3_K;
      case kQ3KM: return BlockType::q4_K;
      case kQ3KL: return BlockType::q5_K;
      default: return usual_;
    }
  }

  BlockType down(std::int64_t i) const {
    const std::int64_t n = model_.blocks;
    const bool early = i < n / 8;
    switch (type_.id) {
      case kQ2K: return BlockType::q3_K;
      case kQ2KS: return early ? BlockType::q4_K : usual_;
      case kQ3KM: return i < n / 16 ? BlockType::q5_K : BlockType::q4_K;
      case kQ3KL: return BlockType::q5_K;
      case kQ4KM:
      case kQ5KM: return deserves_more(i, n) ? BlockType::q6_K : usual_;
      case kQ4KS: return early ? BlockType::q5_K : usual_;
      case kIq4Nl:
      case kIq4Xs: return early && !model_.importance ? BlockType::q5_K : usual_;
      case kQ40: return early && model_.importance ? BlockType::q4_1 : usual_;
      case kQ50: return early && model_.importance ? BlockType::q5_1 : usual_;
      default: return usual_;
    }
  }

  const LlamaFileType& type_;
  BlockType usual_;
  const MixtureModel& model_;
  std::int64_t values_ = 0;
  std::int64_t value_seen_ = 0;
  std::int64_t down_seen_ = 0;
  bool has_output_ = false;
};

}  // namespace

std::span<const LlamaFileType> llama_file_types() { return kFileTypes; }

const LlamaFileType* find_llama_file_type(std::string_view name) {
  std::string wanted = upper(name);
  if (wanted == "Q3_K" || wanted == "Q4_K" || wanted == "Q5_K") wanted += "_M";
  const auto found = std::ranges::find(kFileTypes, wanted, &LlamaFileType::name);
  return found == kFileTypes.end() ? nullptr : &*found;
}

bool mixture_takes(std::string_view name, const Shape& shape) {
  static constexpr std::array<std::string_view, 17> kNever{"_norm.weight",
                                                           "ffn_gate_inp.weight",
                                                           "ssm_conv1d",
                                                           "shortconv.conv.weight",
                                                           "altup",
                                                           "laurel",
                                                           "per_layer_model_proj",
                                                           "position_embd",
                                                           "token_types",
                                                           "time_mix_",
                                                           "attn_rel_b.weight",
                                                           "ffn_gate_tid2eid",
                                                           "indexer.k_proj",
                                                           "indexer.q_proj",
                                                           ".patch_embd",
                                                           ".patch_merger",
                                                           ".rel_pos"};
  // ggml counts dimensions without the ones at the end, which are the first here.
  const auto first = std::ranges::find_if(shape.dims, [](std::int64_t dim) { return dim != 1; });
  if (shape.dims.end() - first < 2 || !name.ends_with("weight")) return false;
  return std::ranges::none_of(kNever, [&](std::string_view part) { return has(name, part); });
}

std::vector<std::size_t> llama_order(std::span<const std::string_view> names) {
  std::vector<std::size_t> order(names.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::tuple(block_of(names[i]).value_or(-1), names[i]); });
  return order;
}

std::vector<std::optional<Element>> mixture_types(const LlamaFileType& file_type,
                                                  std::span<const MixtureTensor> tensors, const MixtureModel& model) {
  std::vector<std::optional<Element>> types(tensors.size());
  const auto* blocks = std::get_if<BlockType>(&file_type.usual);
  std::optional<Mixture> mixture;
  if (blocks != nullptr) mixture.emplace(file_type, tensors, model);
  std::vector<std::string_view> names;
  for (const MixtureTensor& tensor : tensors) names.push_back(tensor.name);
  for (const std::size_t i : llama_order(names)) {
    if (!mixture_takes(tensors[i].name, tensors[i].shape)) continue;
    types[i] = mixture ? fit_blocks(mixture->type_of(tensors[i]), tensors[i].shape.columns()) : file_type.usual;
  }
  return types;
}

}  // namespace regauge
