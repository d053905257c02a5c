#include "tests/support/moe_model.h"

#include <algorithm>
#include <cstring>
#include <ostream>
#include <random>
#include <stdexcept>

#include "tests/support/golden.h"

namespace regauge::testing {
namespace {

using Array = SafetensorsPatch::Array;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kGroup = 32;

template <typename T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

class Maker {
 public:
  Maker(const MoeSizes& sizes, MoeStorage storage) : sizes_(sizes), storage_(storage) {}

  MoeModel make() {
    const std::string text = "model.language_model.";
    plain(text + "embed_tokens.weight", {sizes_.vocab, sizes_.hidden});
    for (int layer = 0; layer < sizes_.layers; ++layer) {
      const std::string prefix = text + "layers." + std::to_string(layer) + ".";
      if (layer % 2 == 1) {
        attention(prefix + "self_attn.");
      } else {
        deltanet(prefix + "linear_attn.");
      }
      block(prefix, storage_ == MoeStorage::official || storage_ == MoeStorage::fused);
    }
    plain(text + "norm.weight", {sizes_.hidden});
    if (!sizes_.tied) plain("lm_head.weight", {sizes_.vocab, sizes_.hidden});
    mtp();
    model_.config = config();
    return std::move(model_);
  }

 private:
  /// Ordinary BF16 numbers: below 1/4, so that norms lie around 0.
  std::uint16_t number() {
    const auto bits = static_cast<std::uint32_t>(random_());
    return static_cast<std::uint16_t>((bits & 0x8000U) | (117U + (bits >> 16) % 8) << 7 | (bits & 0x7FU));
  }

  void plain(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t dim : shape) count *= dim;
    std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
    for (std::uint16_t& value : values) value = number();
    model_.arrays.push_back({name, "BF16", std::move(shape), bytes_of(values)});
  }

  void single(const std::string& name, std::int64_t count, float from, float step) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(from + step * static_cast<float>(random_() % 1000));
    model_.arrays.push_back({name, "F32", {count}, bytes_of(values)});
  }

  /// A linear layer of n outputs and k inputs.
  void module(const std::string& name, std::int64_t n, std::int64_t k) {
    if (storage_ != MoeStorage::gptq) return plain(name + ".weight", {n, k});
    Codes codes{n, k, std::vector<std::uint8_t>(static_cast<std::size_t>(n * k)),
                std::vector<std::uint16_t>(static_cast<std::size_t>(n * k / kGroup))};
    for (std::uint8_t& code : codes.codes) code = static_cast<std::uint8_t>(random_() % 16);
    // Positive f16 between 2^-9 and 2^-5.
    for (std::uint16_t& scale : codes.scales)
      scale = static_cast<std::uint16_t>((6U + random_() % 4) << 10 | random_() % 1024);
    add_gptq(name, codes);
    model_.modules.emplace(name, std::move(codes));
  }

  /// qweight packs 8 codes of one output along the inputs, low bits first; scales and zero points lie turned round, and a
  /// zero point of 8 is stored as 7. Source: ModelCloud/GPTQModel gptqmodel/nn_modules/qlinear/__init__.py.
  void add_gptq(const std::string& name, const Codes& codes) {
    const std::int64_t n = codes.rows;
    const std::int64_t k = codes.columns;
    const std::int64_t groups = k / kGroup;
    std::vector<std::uint32_t> words(static_cast<std::size_t>(k / 8 * n));
    for (std::int64_t row = 0; row < n; ++row) {
      for (std::int64_t column = 0; column < k; ++column) {
        const std::uint32_t code = codes.codes[static_cast<std::size_t>(row * k + column)];
        words[static_cast<std::size_t>(column / 8 * n + row)] |= code << (column % 8 * 4);
      }
    }
    std::vector<std::uint16_t> scales(codes.scales.size());
    for (std::int64_t row = 0; row < n; ++row) {
      for (std::int64_t g = 0; g < groups; ++g)
        scales[static_cast<std::size_t>(g * n + row)] = codes.scales[static_cast<std::size_t>(row * groups + g)];
    }
    std::vector<std::uint32_t> index(static_cast<std::size_t>(k));
    for (std::size_t column = 0; column < index.size(); ++column)
      index[column] = static_cast<std::uint32_t>(column / static_cast<std::size_t>(kGroup));
    model_.arrays.push_back({name + ".qweight", "I32", {k / 8, n}, bytes_of(words)});
    model_.arrays.push_back(
        {name + ".qzeros",
         "I32",
         {groups, n / 8},
         bytes_of(std::vector<std::uint32_t>(static_cast<std::size_t>(groups * n / 8), 0x77777777U))});
    model_.arrays.push_back({name + ".scales", "F16", {groups, n}, bytes_of(scales)});
    model_.arrays.push_back({name + ".g_idx", "I32", {k}, bytes_of(index)});
  }

  void attention(const std::string& prefix) {
    const std::int64_t width = sizes_.heads * sizes_.head_dim;
    const std::int64_t keys = sizes_.kv_heads * sizes_.head_dim;
    module(prefix + "q_proj", 2 * width, sizes_.hidden);
    module(prefix + "k_proj", keys, sizes_.hidden);
    module(prefix + "v_proj", keys, sizes_.hidden);
    module(prefix + "o_proj", sizes_.hidden, width);
    plain(prefix + "q_norm.weight", {sizes_.head_dim});
    plain(prefix + "k_norm.weight", {sizes_.head_dim});
  }

  void deltanet(const std::string& prefix) {
    const std::int64_t width = sizes_.value_heads * sizes_.linear_dim;
    const std::int64_t channels = 2 * sizes_.key_heads * sizes_.linear_dim + width;
    module(prefix + "in_proj_qkv", channels, sizes_.hidden);
    module(prefix + "in_proj_z", width, sizes_.hidden);
    plain(prefix + "in_proj_b.weight", {sizes_.value_heads, sizes_.hidden});
    plain(prefix + "in_proj_a.weight", {sizes_.value_heads, sizes_.hidden});
    module(prefix + "out_proj", sizes_.hidden, width);
    plain(prefix + "conv1d.weight", {channels, 1, 4});
    plain(prefix + "dt_bias", {sizes_.value_heads});
    single(prefix + "A_log", sizes_.value_heads, -3, 0.004F);
    single(prefix + "norm.weight", sizes_.linear_dim, 0.5F, 0.001F);
  }

  void block(const std::string& prefix, bool fused) {
    plain(prefix + "input_layernorm.weight", {sizes_.hidden});
    plain(prefix + "post_attention_layernorm.weight", {sizes_.hidden});
    const std::string mlp = prefix + "mlp.";
    plain(mlp + "gate.weight", {sizes_.experts, sizes_.hidden});
    if (fused) {
      plain(mlp + "experts.gate_up_proj", {sizes_.experts, 2 * sizes_.intermediate, sizes_.hidden});
      plain(mlp + "experts.down_proj", {sizes_.experts, sizes_.hidden, sizes_.intermediate});
    } else {
      for (std::int64_t expert = 0; expert < sizes_.experts; ++expert)
        triple(mlp + "experts." + std::to_string(expert) + ".", sizes_.intermediate);
    }
    triple(mlp + "shared_expert.", sizes_.shared);
    plain(mlp + "shared_expert_gate.weight", {1, sizes_.hidden});
  }

  void triple(const std::string& prefix, std::int64_t width) {
    module(prefix + "gate_proj", width, sizes_.hidden);
    module(prefix + "up_proj", width, sizes_.hidden);
    module(prefix + "down_proj", sizes_.hidden, width);
  }

  void mtp() {
    plain("mtp.fc.weight", {sizes_.hidden, 2 * sizes_.hidden});
    for (const char* norm : {"pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"})
      plain(std::string("mtp.") + norm + ".weight", {sizes_.hidden});
    attention("mtp.layers.0.self_attn.");
    block("mtp.layers.0.", storage_ == MoeStorage::fused);
  }

  Json config() const {
    Json kinds = Json::array();
    for (int layer = 0; layer < sizes_.layers; ++layer)
      kinds.push_back(layer % 2 == 1 ? "full_attention" : "linear_attention");
    Json text = {{"model_type", "qwen3_5_moe_text"},
                 {"vocab_size", sizes_.vocab},
                 {"hidden_size", sizes_.hidden},
                 {"num_hidden_layers", sizes_.layers},
                 {"num_attention_heads", sizes_.heads},
                 {"num_key_value_heads", sizes_.kv_heads},
                 {"head_dim", sizes_.head_dim},
                 {"rms_norm_eps", 1e-6},
                 {"linear_num_key_heads", sizes_.key_heads},
                 {"linear_num_value_heads", sizes_.value_heads},
                 {"linear_key_head_dim", sizes_.linear_dim},
                 {"linear_value_head_dim", sizes_.linear_dim},
                 {"linear_conv_kernel_dim", 4},
                 {"full_attention_interval", 2},
                 {"layer_types", kinds},
                 {"mtp_num_hidden_layers", 1},
                 {"max_position_embeddings", 256},
                 {"num_experts", sizes_.experts},
                 {"num_experts_per_tok", sizes_.experts_used},
                 {"moe_intermediate_size", sizes_.intermediate},
                 {"shared_expert_intermediate_size", sizes_.shared},
                 {"dtype", "bfloat16"},
                 {"attn_output_gate", true},
                 {"attention_bias", false},
                 {"hidden_act", "silu"},
                 {"eos_token_id", 256},
                 {"rope_parameters",
                  {{"rope_type", "default"},
                   {"rope_theta", 10000000.0},
                   {"partial_rotary_factor", 0.5},
                   {"mrope_section", {3, 3, 2}},
                   {"mrope_interleaved", true}}}};
    Json config = {{"architectures", Json::array({"Qwen3_5MoeForConditionalGeneration"})},
                   {"model_type", "qwen3_5_moe"},
                   {"text_config", std::move(text)},
                   {"tie_word_embeddings", sizes_.tied}};
    if (storage_ == MoeStorage::gptq) {
      config["quantization_config"] = {{"bits", 4},
                                       {"group_size", kGroup},
                                       {"desc_act", false},
                                       {"sym", true},
                                       {"lm_head", false},
                                       {"quant_method", "gptq"},
                                       {"checkpoint_format", "gptq"},
                                       {"pack_dtype", "int32"},
                                       {"meta", {{"quantizer", Json::array({"gptqmodel:7.3.4"})}}}};
    }
    return config;
  }

  const MoeSizes& sizes_;
  MoeStorage storage_;
  std::mt19937 random_{20260921};  // the standard says which numbers follow
  MoeModel model_;
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const MoeSizes& sizes) { return out << sizes.name; }

std::vector<MoeSizes> published_mixtures() {
  MoeSizes small{.name = "35B_A3B"};
  MoeSizes middle{.name = "122B_A10B"};
  middle.heads = 32;
  middle.value_heads = 64;
  MoeSizes large = middle;
  large.name = "397B_A17B";
  large.experts = 512;
  large.experts_used = 10;
  return {small, middle, large};
}

const SafetensorsPatch::Array& MoeModel::array(const std::string& name) const {
  const auto found = std::ranges::find(arrays, name, &SafetensorsPatch::Array::name);
  if (found == arrays.end()) throw std::runtime_error("nothing here is called " + name);
  return *found;
}

MoeModel make_moe(const MoeSizes& sizes, MoeStorage storage) { return Maker(sizes, storage).make(); }

void write_moe(const std::filesystem::path& folder, const MoeModel& model) {
  write_safetensors(folder / "model.safetensors", model.arrays);
  write_text(folder / "config.json", model.config.dump(2));
}

Bytes q4_0_stack(const std::vector<const Codes*>& modules) {
  Bytes out;
  for (const Codes* module : modules) {
    for (std::size_t group = 0; group < module->scales.size(); ++group) {
      const std::uint16_t scale = module->scales[group];
      out.push_back(static_cast<std::byte>(scale & 0xFF));
      out.push_back(static_cast<std::byte>(scale >> 8));
      for (std::size_t j = 0; j < 16; ++j) {
        const std::uint8_t* codes = module->codes.data() + group * 32;
        out.push_back(static_cast<std::byte>(codes[j] | codes[j + 16] << 4));
      }
    }
  }
  return out;
}

}  // namespace regauge::testing
