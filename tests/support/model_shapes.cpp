#include "tests/support/model_shapes.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>

#include "tests/support/golden.h"

namespace regauge::testing {
namespace {

using Json = nlohmann::ordered_json;
using Storage = ShapesRecipe::Storage;

// Sizes of Qwen/Qwen3.5-27B. Source: its config.json.
constexpr std::int64_t kHidden = 5120;
constexpr std::int64_t kIntermediate = 17408;
constexpr int kInterval = 4;  // every fourth layer has full attention
constexpr std::int64_t kHeadDim = 256;
constexpr std::int64_t kQueryRows = 2 * 24 * kHeadDim;  // query and output gate of 24 heads
constexpr std::int64_t kKeyRows = 4 * kHeadDim;
constexpr std::int64_t kAttentionWidth = 24 * kHeadDim;
constexpr std::int64_t kValueHeads = 48;
constexpr std::int64_t kValueDim = 128;
constexpr std::int64_t kValueWidth = kValueHeads * kValueDim;
constexpr std::int64_t kConvChannels = 2 * 16 * 128 + kValueWidth;
constexpr std::int64_t kConvTaps = 4;
constexpr int kVisionDepth = 27;
constexpr std::int64_t kVisionHidden = 1152;
constexpr std::int64_t kVisionIntermediate = 4304;
constexpr std::int64_t kVisionPositions = 2304;
constexpr std::int64_t kVisionMerged = 4 * kVisionHidden;

std::uint64_t element_bytes(const std::string& dtype) {
  static const std::map<std::string, std::uint64_t> kBytes{{"BF16", 2}, {"F16", 2}, {"F32", 4}, {"I32", 4}, {"U32", 4}};
  return kBytes.at(dtype);
}

bool is_full_attention(int layer) { return (layer + 1) % kInterval == 0; }

class Maker {
 public:
  explicit Maker(const ShapesRecipe& recipe) : recipe_(recipe) {}

  ModelShapes make() {
    const bool mlx = recipe_.storage == Storage::mlx;
    const std::string model = mlx ? "language_model.model." : "model.language_model.";
    module(model + "embed_tokens", recipe_.vocab, kHidden, mlx ? recipe_.embedding : 0);
    for (int layer = 0; layer < recipe_.layers; ++layer)
      add_layer(model + "layers." + std::to_string(layer) + ".", layer);
    plain(model + "norm.weight", {kHidden});
    module(mlx ? "language_model.lm_head" : "lm_head", recipe_.vocab, kHidden, mlx ? recipe_.embedding : 0);
    if (recipe_.mtp && !mlx) add_mtp();
    if (recipe_.vision && !mlx) add_vision();
    shapes_.config = config();
    return std::move(shapes_);
  }

 private:
  void plain(const std::string& name, std::vector<std::int64_t> shape, const std::string& dtype = "BF16") {
    shapes_.arrays.push_back({name, dtype, std::move(shape)});
  }

  /// A linear layer of N outputs and K inputs at `bits` bits; 0 keeps it dense.
  void module(const std::string& name, std::int64_t n, std::int64_t k, int bits) {
    if (bits == 0 || recipe_.storage == Storage::bf16) {
      plain(name + ".weight", {n, k});
      return;
    }
    const std::int64_t groups = (k + recipe_.group - 1) / recipe_.group;
    if (recipe_.storage == Storage::mlx) {
      plain(name + ".weight", {n, k * bits / 32}, "U32");
      plain(name + ".scales", {n, groups});
      plain(name + ".biases", {n, groups});
      return;
    }
    plain(name + ".g_idx", {k}, "I32");
    plain(name + ".scales", {groups, n}, "F16");
    plain(name + ".qweight", {k * bits / 32, n}, "I32");
    plain(name + ".qzeros", {groups, n * bits / 32}, "I32");
    // Symmetric zero points minus one, as version 1 of the format stores them.
    shapes_.arrays.back().first_row = bits == 8 ? 0x7F7F7F7FU : 0x77777777U;
    if (recipe_.eora_rank > 0) {
      const std::string factor = "base_model.model." + name;
      shapes_.adapter.push_back({factor + ".lora_A.weight", "F16", {recipe_.eora_rank, k}});
      shapes_.adapter.push_back({factor + ".lora_B.weight", "F16", {n, recipe_.eora_rank}});
    }
  }

  void add_attention(const std::string& prefix, int bits) {
    module(prefix + "q_proj", kQueryRows, kHidden, bits);
    module(prefix + "k_proj", kKeyRows, kHidden, bits);
    module(prefix + "v_proj", kKeyRows, kHidden, bits);
    module(prefix + "o_proj", kHidden, kAttentionWidth, bits);
    plain(prefix + "q_norm.weight", {kHeadDim});
    plain(prefix + "k_norm.weight", {kHeadDim});
  }

  void add_deltanet(const std::string& prefix) {
    const bool mlx = recipe_.storage == Storage::mlx;
    module(prefix + "in_proj_qkv", kConvChannels, kHidden, recipe_.deltanet_in);
    module(prefix + "in_proj_z", kValueWidth, kHidden, recipe_.deltanet_in);
    module(prefix + "in_proj_b", kValueHeads, kHidden, mlx ? recipe_.deltanet_in : 0);
    module(prefix + "in_proj_a", kValueHeads, kHidden, mlx ? recipe_.deltanet_in : 0);
    module(prefix + "out_proj", kHidden, kValueWidth, recipe_.deltanet_out);
    if (mlx) {
      plain(prefix + "conv1d.weight", {kConvChannels, kConvTaps, 1});
    } else {
      plain(prefix + "conv1d.weight", {kConvChannels, 1, kConvTaps});
    }
    plain(prefix + "A_log", {kValueHeads}, "F32");
    plain(prefix + "dt_bias", {kValueHeads});
    plain(prefix + "norm.weight", {kValueDim}, "F32");
  }

  void add_mlp(const std::string& prefix, int bits) {
    module(prefix + "gate_proj", kIntermediate, kHidden, bits);
    module(prefix + "up_proj", kIntermediate, kHidden, bits);
    module(prefix + "down_proj", kHidden, kIntermediate, bits);
  }

  void add_layer(const std::string& prefix, int layer) {
    plain(prefix + "input_layernorm.weight", {kHidden});
    plain(prefix + "post_attention_layernorm.weight", {kHidden});
    if (is_full_attention(layer)) {
      add_attention(prefix + "self_attn.", recipe_.attention);
    } else {
      add_deltanet(prefix + "linear_attn.");
    }
    add_mlp(prefix + "mlp.", recipe_.mlp);
  }

  void add_mtp() {
    plain("mtp.fc.weight", {kHidden, 2 * kHidden});
    for (const char* norm : {"pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm", "layers.0.input_layernorm",
                             "layers.0.post_attention_layernorm"}) {
      plain(std::string("mtp.") + norm + ".weight", {kHidden});
    }
    add_attention("mtp.layers.0.self_attn.", 0);
    add_mlp("mtp.layers.0.mlp.", 0);
  }

  void with_bias(const std::string& name, std::vector<std::int64_t> shape) {
    const std::int64_t outputs = shape.front();
    plain(name + ".weight", std::move(shape));
    plain(name + ".bias", {outputs});
  }

  void add_vision() {
    const std::string tower = "model.visual.";
    with_bias(tower + "patch_embed.proj", {kVisionHidden, 3, 2, 16, 16});
    plain(tower + "pos_embed.weight", {kVisionPositions, kVisionHidden});
    for (int block = 0; block < kVisionDepth; ++block) {
      const std::string prefix = tower + "blocks." + std::to_string(block) + ".";
      with_bias(prefix + "norm1", {kVisionHidden});
      with_bias(prefix + "norm2", {kVisionHidden});
      with_bias(prefix + "attn.qkv", {3 * kVisionHidden, kVisionHidden});
      with_bias(prefix + "attn.proj", {kVisionHidden, kVisionHidden});
      with_bias(prefix + "mlp.linear_fc1", {kVisionIntermediate, kVisionHidden});
      with_bias(prefix + "mlp.linear_fc2", {kVisionHidden, kVisionIntermediate});
    }
    with_bias(tower + "merger.norm", {kVisionHidden});
    with_bias(tower + "merger.linear_fc1", {kVisionMerged, kVisionMerged});
    with_bias(tower + "merger.linear_fc2", {kHidden, kVisionMerged});
  }

  Json text_config() const {
    Json kinds = Json::array();
    for (int layer = 0; layer < recipe_.layers; ++layer) {
      kinds.push_back(is_full_attention(layer) ? "full_attention" : "linear_attention");
    }
    return {{"attention_bias", false},
            {"attention_dropout", 0.0},
            {"attn_output_gate", true},
            {"dtype", "bfloat16"},
            {"eos_token_id", 248044},
            {"full_attention_interval", kInterval},
            {"head_dim", kHeadDim},
            {"hidden_act", "silu"},
            {"hidden_size", kHidden},
            {"initializer_range", 0.02},
            {"intermediate_size", kIntermediate},
            {"layer_types", kinds},
            {"linear_conv_kernel_dim", kConvTaps},
            {"linear_key_head_dim", 128},
            {"linear_num_key_heads", 16},
            {"linear_num_value_heads", kValueHeads},
            {"linear_value_head_dim", kValueDim},
            {"max_position_embeddings", 262144},
            {"mlp_only_layers", Json::array()},
            {"model_type", "qwen3_5_text"},
            {"mtp_num_hidden_layers", 1},
            {"mtp_use_dedicated_embeddings", false},
            {"num_attention_heads", 24},
            {"num_hidden_layers", recipe_.layers},
            {"num_key_value_heads", 4},
            {"rms_norm_eps", 1e-06},
            {"use_cache", true},
            {"vocab_size", recipe_.vocab},
            {"mamba_ssm_dtype", "float32"},
            {"rope_parameters",
             {{"mrope_interleaved", true},
              {"mrope_section", {11, 11, 10}},
              {"rope_type", "default"},
              {"rope_theta", 10000000},
              {"partial_rotary_factor", 0.25}}}};
  }

  static Json vision_config() {
    return {{"deepstack_visual_indexes", Json::array()},
            {"depth", kVisionDepth},
            {"hidden_act", "gelu_pytorch_tanh"},
            {"hidden_size", kVisionHidden},
            {"in_channels", 3},
            {"initializer_range", 0.02},
            {"intermediate_size", kVisionIntermediate},
            {"model_type", "qwen3_5"},
            {"num_heads", 16},
            {"num_position_embeddings", kVisionPositions},
            {"out_hidden_size", kHidden},
            {"patch_size", 16},
            {"spatial_merge_size", 2},
            {"temporal_patch_size", 2}};
  }

  Json gptq_config() const {
    Json section = {{"bits", recipe_.mlp},
                    {"group_size", recipe_.group},
                    {"desc_act", recipe_.desc_act},
                    {"sym", true},
                    {"lm_head", false},
                    {"method", "gptq"},
                    {"quant_method", "gptq"},
                    {"format", "gptq"},
                    {"checkpoint_format", "gptq"},
                    {"pack_dtype", "int32"}};
    Json dynamic = Json::object();
    if (recipe_.vision) dynamic["-:.*\\.visual\\..*"] = Json::object();
    if (recipe_.attention != recipe_.mlp && recipe_.attention != 0) {
      dynamic["+:.*\\.self_attn\\..*"] = {{"bits", recipe_.attention}};
    }
    if (!dynamic.empty()) section["dynamic"] = std::move(dynamic);
    section["meta"]["quantizer"] = Json::array({"gptqmodel:7.3.4"});
    return section;
  }

  Json mlx_config() const {
    Json section = {{"group_size", recipe_.group}, {"bits", recipe_.mlp}, {"mode", "affine"}};
    for (const ShapedArray& array : shapes_.arrays) {
      if (array.dtype != "U32") continue;
      const std::string module = array.name.substr(0, array.name.rfind('.'));
      int bits = recipe_.mlp;
      if (module.find("self_attn") != std::string::npos) bits = recipe_.attention;
      if (module.find("in_proj") != std::string::npos) bits = recipe_.deltanet_in;
      if (module.find("out_proj") != std::string::npos) bits = recipe_.deltanet_out;
      if (module.ends_with("embed_tokens") || module.ends_with("lm_head")) bits = recipe_.embedding;
      if (bits != recipe_.mlp) section[module] = {{"group_size", recipe_.group}, {"bits", bits}};
    }
    return section;
  }

  Json config() const {
    Json config = {{"architectures", Json::array({"Qwen3_5ForConditionalGeneration"})},
                   {"image_token_id", 248056},
                   {"model_type", "qwen3_5"},
                   {"text_config", text_config()},
                   {"tie_word_embeddings", false},
                   {"transformers_version", "4.57.0.dev0"},
                   {"video_token_id", 248057}};
    if (recipe_.storage != Storage::mlx) config["vision_config"] = vision_config();
    if (recipe_.storage == Storage::gptq) config["quantization_config"] = gptq_config();
    if (recipe_.storage == Storage::mlx) config["quantization"] = config["quantization_config"] = mlx_config();
    return config;
  }

  const ShapesRecipe& recipe_;
  ModelShapes shapes_;
};

void write_text(const std::filesystem::path& path, const std::string& text) {
  write_whole_file(path, std::as_bytes(std::span(text)));
}

void write_sparse_file(const std::filesystem::path& path, std::span<const ShapedArray> arrays) {
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const ShapedArray& array : arrays) {
    header[array.name] = {
        {"dtype", array.dtype}, {"shape", array.shape}, {"data_offsets", {offset, offset + array.bytes()}}};
    offset += array.bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  std::string head(sizeof length, '\0');
  std::memcpy(head.data(), &length, sizeof length);
  write_text(path, head + text);
  std::filesystem::resize_file(path, head.size() + text.size() + offset);

  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  std::uint64_t begin = head.size() + text.size();
  for (const ShapedArray& array : arrays) {
    if (array.first_row != 0) {
      const std::vector<std::uint32_t> words(static_cast<std::size_t>(array.shape.back()), array.first_row);
      file.seekp(static_cast<std::streamoff>(begin));
      file.write(reinterpret_cast<const char*>(words.data()),
                 static_cast<std::streamsize>(words.size() * sizeof words[0]));
    }
    begin += array.bytes();
  }
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

std::string shard_name(int shard, int shards) {
  const auto padded = [](int number) {
    const std::string digits = std::to_string(number);
    return std::string(5 - std::min<std::size_t>(digits.size(), 5), '0') + digits;
  };
  return "model-" + padded(shard + 1) + "-of-" + padded(shards) + ".safetensors";
}

}  // namespace

std::uint64_t ShapedArray::elements() const {
  std::uint64_t product = 1;
  for (const std::int64_t dim : shape) product *= static_cast<std::uint64_t>(dim);
  return product;
}

std::uint64_t ShapedArray::bytes() const { return elements() * element_bytes(dtype); }

std::uint64_t ModelShapes::bytes() const {
  std::uint64_t total = 0;
  for (const ShapedArray& array : arrays) total += array.bytes();
  for (const ShapedArray& array : adapter) total += array.bytes();
  return total;
}

ModelShapes make_qwen35_27b(const ShapesRecipe& recipe) { return Maker(recipe).make(); }

void write_sparse_checkpoint(const std::filesystem::path& folder, const ModelShapes& shapes, int shards) {
  const std::span all(shapes.arrays);
  Json index;
  std::uint64_t total = 0;
  Json places = Json::object();
  for (int shard = 0; shard < shards; ++shard) {
    const std::size_t begin = all.size() * static_cast<std::size_t>(shard) / static_cast<std::size_t>(shards);
    const std::size_t end = all.size() * (static_cast<std::size_t>(shard) + 1) / static_cast<std::size_t>(shards);
    const auto part = all.subspan(begin, end - begin);
    const std::string name = shard_name(shard, shards);
    write_sparse_file(folder / name, part);
    for (const ShapedArray& array : part) {
      places[array.name] = name;
      total += array.bytes();
    }
  }
  index["metadata"] = {{"total_size", total}};
  index["weight_map"] = std::move(places);
  write_text(folder / "model.safetensors.index.json", index.dump(2));
  write_text(folder / "config.json", shapes.config.dump(2));
  if (shapes.adapter.empty()) return;
  std::filesystem::create_directory(folder / "eora");
  write_sparse_file(folder / "eora/adapter_model.safetensors", shapes.adapter);
  const std::int64_t rank = shapes.adapter.front().shape.front();
  const Json adapter = {{"r", rank}, {"lora_alpha", rank}, {"peft_type", "LORA"}, {"bias", "none"}};
  write_text(folder / "eora/adapter_config.json", adapter.dump(2));
}

}  // namespace regauge::testing
