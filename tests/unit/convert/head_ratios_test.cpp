#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"
#include "tests/support/opened.h"
#include "tests/support/patch.h"

// Models of odd sizes in which every number says where it comes from, taken to GGUF and MLX and back: each rule of each
// dialect is written out below as the loops that it means.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Opened;
using testing::ScratchDir;
using Array = testing::SafetensorsPatch::Array;
using Json = nlohmann::ordered_json;
using Numbers = std::vector<float>;

struct Sizes {
  std::size_t key_heads, ratio, dim;  ///< of the linear layers; ratio value heads share a key head
  std::size_t hidden = 9, heads = 3, kv_heads = 1, head_dim = 6, intermediate = 13, vocab = 11, taps = 4;
  std::size_t tower = 6, tower_out = 5, patch = 3, positions = 16;

  std::size_t value_heads() const { return key_heads * ratio; }
  std::size_t keys() const { return 2 * key_heads * dim; }  ///< rows of queries and keys
  std::size_t width() const { return value_heads() * dim; }
};

std::ostream& operator<<(std::ostream& out, const Sizes& sizes) {
  return out << sizes.key_heads << " key heads, ratio " << sizes.ratio << ", dim " << sizes.dim;
}

class Model {
 public:
  explicit Model(const Sizes& sizes) : sizes_(sizes) {
    const std::string text = "model.language_model.";
    add(text + "embed_tokens.weight", {sizes.vocab, sizes.hidden});
    add(text + "norm.weight", {sizes.hidden}, kNorm);
    add("lm_head.weight", {sizes.vocab, sizes.hidden});
    const std::string linear = text + "layers.0.linear_attn.";
    add(linear + "in_proj_qkv.weight", {sizes.keys() + sizes.width(), sizes.hidden});
    add(linear + "in_proj_z.weight", {sizes.width(), sizes.hidden});
    add(linear + "in_proj_b.weight", {sizes.value_heads(), sizes.hidden});
    add(linear + "in_proj_a.weight", {sizes.value_heads(), sizes.hidden});
    add(linear + "conv1d.weight", {sizes.keys() + sizes.width(), 1, sizes.taps});
    add(linear + "A_log", {sizes.value_heads()}, kDecay);
    add(linear + "dt_bias", {sizes.value_heads()});
    add(linear + "norm.weight", {sizes.dim});
    add(linear + "out_proj.weight", {sizes.hidden, sizes.width()});
    attention(text + "layers.1.self_attn.");
    for (const std::string layer : {"layers.0.", "layers.1."}) block(text + layer);
    add("mtp.fc.weight", {sizes.hidden, 2 * sizes.hidden});
    for (const char* norm : {"pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"})
      add(std::string("mtp.") + norm + ".weight", {sizes.hidden}, kNorm);
    attention("mtp.layers.0.self_attn.");
    block("mtp.layers.0.");
    vision("model.visual.");
  }

  const Numbers& operator[](const std::string& name) const { return numbers_.at(name); }
  const std::map<std::string, Numbers>& all() const { return numbers_; }

  fs::path write(const fs::path& folder) const {
    fs::create_directories(folder);
    std::vector<Array> arrays;
    for (const auto& [name, numbers] : numbers_)
      arrays.push_back({name, "F32", shapes_.at(name), testing::to_f32(numbers)});
    testing::write_safetensors(folder / "model.safetensors", arrays);
    testing::write_text(folder / "config.json", config().dump());
    testing::write_text(folder / "preprocessor_config.json",
                        R"({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})");
    return folder;
  }

 private:
  enum Kind { kPlain, kNorm, kDecay };

  void add(const std::string& name, const std::vector<std::size_t>& shape, Kind kind = kPlain) {
    std::size_t count = 1;
    for (const std::size_t dim : shape) count *= dim;
    Numbers& numbers = numbers_[name];
    for (std::size_t i = 0; i < count; ++i) {
      ++next_;
      // No two numbers alike, and none that BF16 could hold; the last two kinds survive 1 + w and belong to decays.
      if (kind == kPlain) numbers.push_back(static_cast<float>(65536 + next_));
      if (kind == kNorm) numbers.push_back(static_cast<float>(static_cast<int>(next_ % 512) - 256) / 4096.0F);
      if (kind == kDecay) numbers.push_back(-4.0F + static_cast<float>(i) * 0.3125F);
    }
    shapes_[name] = std::vector<std::int64_t>(shape.begin(), shape.end());
  }

  void attention(const std::string& prefix) {
    add(prefix + "q_proj.weight", {2 * sizes_.heads * sizes_.head_dim, sizes_.hidden});
    add(prefix + "k_proj.weight", {sizes_.kv_heads * sizes_.head_dim, sizes_.hidden});
    add(prefix + "v_proj.weight", {sizes_.kv_heads * sizes_.head_dim, sizes_.hidden});
    add(prefix + "o_proj.weight", {sizes_.hidden, sizes_.heads * sizes_.head_dim});
    add(prefix + "q_norm.weight", {sizes_.head_dim}, kNorm);
    add(prefix + "k_norm.weight", {sizes_.head_dim}, kNorm);
  }

  void block(const std::string& prefix) {
    add(prefix + "input_layernorm.weight", {sizes_.hidden}, kNorm);
    add(prefix + "post_attention_layernorm.weight", {sizes_.hidden}, kNorm);
    add(prefix + "mlp.gate_proj.weight", {sizes_.intermediate, sizes_.hidden});
    add(prefix + "mlp.up_proj.weight", {sizes_.intermediate, sizes_.hidden});
    add(prefix + "mlp.down_proj.weight", {sizes_.hidden, sizes_.intermediate});
  }

  void with_bias(const std::string& name, const std::vector<std::size_t>& shape) {
    add(name + ".weight", shape);
    add(name + ".bias", {shape.front()});
  }

  void vision(const std::string& prefix) {
    const std::size_t v = sizes_.tower;
    with_bias(prefix + "patch_embed.proj", {v, 3, 2, sizes_.patch, sizes_.patch});
    add(prefix + "pos_embed.weight", {sizes_.positions, v});
    const std::string block = prefix + "blocks.0.";
    with_bias(block + "norm1", {v});
    with_bias(block + "norm2", {v});
    with_bias(block + "attn.qkv", {3 * v, v});
    with_bias(block + "attn.proj", {v, v});
    with_bias(block + "mlp.linear_fc1", {7, v});
    with_bias(block + "mlp.linear_fc2", {v, 7});
    with_bias(prefix + "merger.norm", {v});
    with_bias(prefix + "merger.linear_fc1", {4 * v, 4 * v});
    with_bias(prefix + "merger.linear_fc2", {sizes_.hidden, 4 * v});
  }

  Json config() const {
    return {{"architectures", {"Qwen3_5ForConditionalGeneration"}},
            {"model_type", "qwen3_5"},
            {"tie_word_embeddings", false},
            {"text_config",
             {{"model_type", "qwen3_5_text"},
              {"vocab_size", sizes_.vocab},
              {"hidden_size", sizes_.hidden},
              {"intermediate_size", sizes_.intermediate},
              {"num_hidden_layers", 2},
              {"num_attention_heads", sizes_.heads},
              {"num_key_value_heads", sizes_.kv_heads},
              {"head_dim", sizes_.head_dim},
              {"rms_norm_eps", 1e-6},
              {"linear_num_key_heads", sizes_.key_heads},
              {"linear_num_value_heads", sizes_.value_heads()},
              {"linear_key_head_dim", sizes_.dim},
              {"linear_value_head_dim", sizes_.dim},
              {"linear_conv_kernel_dim", sizes_.taps},
              {"full_attention_interval", 2},
              {"layer_types", {"linear_attention", "full_attention"}},
              {"mtp_num_hidden_layers", 1},
              {"max_position_embeddings", 64},
              {"attn_output_gate", true},
              {"rope_parameters",
               {{"rope_type", "default"},
                {"rope_theta", 10000.0},
                {"partial_rotary_factor", 1.0},
                {"mrope_section", {1, 1, 1}}}}}},
            {"vision_config",
             {{"model_type", "qwen3_5"},
              {"depth", 1},
              {"hidden_size", sizes_.tower},
              {"intermediate_size", 7},
              {"num_heads", 2},
              {"in_channels", 3},
              {"patch_size", sizes_.patch},
              {"temporal_patch_size", 2},
              {"spatial_merge_size", 2},
              {"num_position_embeddings", sizes_.positions},
              {"out_hidden_size", sizes_.hidden},
              {"deepstack_visual_indexes", Json::array()}}}};
  }

  Sizes sizes_;
  std::size_t next_ = 0;
  std::map<std::string, Numbers> numbers_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
};

void convert(const std::vector<Opened>& sources, const fs::path& target, const std::string& format) {
  ConvertOptions options;
  options.format = format;
  options.directory = format != "gguf";
  std::vector<OpenedPath> paths;
  for (const Opened& one : sources) paths.push_back(one.path());
  const Plan plan = plan_conversion(paths, target, options);
  execute(plan, *paths.front().checkpoint, options);
}

std::vector<Opened> opened(std::initializer_list<fs::path> paths) {
  std::vector<Opened> all;
  for (const fs::path& path : paths) all.emplace_back(path);
  return all;
}

struct Stored {
  Shape shape;
  Numbers numbers;
};

Stored stored(const Checkpoint& checkpoint, const std::string& name) {
  const StoredArray* array = checkpoint.find_array(name);
  if (array == nullptr) {
    ADD_FAILURE() << "no array " << name;
    return {};
  }
  const auto bytes = checkpoint.files[array->file].file->read_range(array->offset, array->bytes);
  return {array->shape, element_name(*array) == "BF16" ? testing::from_bf16(bytes) : testing::from_f32(bytes)};
}

/// Rows of `columns` numbers in another order.
Numbers rows_in(const Numbers& numbers, std::size_t columns, const std::vector<std::size_t>& order) {
  Numbers out;
  for (const std::size_t row : order) {
    for (std::size_t c = 0; c < columns; ++c) out.push_back(numbers[row * columns + c]);
  }
  return out;
}

Numbers columns_in(const Numbers& numbers, std::size_t columns, const std::vector<std::size_t>& order) {
  Numbers out;
  for (std::size_t row = 0; row * columns < numbers.size(); ++row) {
    for (const std::size_t column : order) out.push_back(numbers[row * columns + column]);
  }
  return out;
}

Numbers plus_one(Numbers numbers) {
  for (float& number : numbers) number = 1.0F + number;
  return numbers;
}

/// GGUF goes round the key heads: first the first value head of each, then the second of each. `dim` elements a head, behind
/// `lead` that stay.
std::vector<std::size_t> tiled(const Sizes& sizes, std::size_t dim, std::size_t lead = 0) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < lead; ++i) order.push_back(i);
  for (std::size_t of_key = 0; of_key < sizes.ratio; ++of_key) {
    for (std::size_t key = 0; key < sizes.key_heads; ++key) {
      const std::size_t head = key * sizes.ratio + of_key;
      for (std::size_t i = 0; i < dim; ++i) order.push_back(lead + head * dim + i);
    }
  }
  return order;
}

class HeadRatios : public ::testing::TestWithParam<Sizes> {
 protected:
  Sizes sizes_ = GetParam();
  Model model_{sizes_};
  ScratchDir scratch_;

  const Numbers& text(const std::string& leaf) const { return model_["model.language_model." + leaf]; }
  const Numbers& linear(const std::string& leaf) const { return text("layers.0.linear_attn." + leaf); }

  void expect(const Checkpoint& made, const std::string& name, const Shape& shape, const Numbers& numbers) const {
    SCOPED_TRACE(name);
    const Stored found = stored(made, name);
    EXPECT_EQ(found.shape, shape);
    EXPECT_EQ(found.numbers, numbers);
  }
  static Shape shape(std::initializer_list<std::size_t> dims) {
    Shape out;
    for (const std::size_t dim : dims) out.dims.push_back(static_cast<std::int64_t>(dim));
    return out;
  }
};

TEST_P(HeadRatios, AreTiledInGguf) {
  convert(opened({model_.write(scratch_ / "hf")}), scratch_ / "m.gguf", "gguf");
  const Checkpoint gguf = open_checkpoint(scratch_ / "m.gguf");
  const std::size_t h = sizes_.hidden;
  const std::size_t channels = sizes_.keys() + sizes_.width();
  expect(gguf, "blk.0.attn_qkv.weight", shape({channels, h}),
         rows_in(linear("in_proj_qkv.weight"), h, tiled(sizes_, sizes_.dim, sizes_.keys())));
  expect(gguf, "blk.0.attn_gate.weight", shape({sizes_.width(), h}),
         rows_in(linear("in_proj_z.weight"), h, tiled(sizes_, sizes_.dim)));
  expect(gguf, "blk.0.ssm_beta.weight", shape({sizes_.value_heads(), h}),
         rows_in(linear("in_proj_b.weight"), h, tiled(sizes_, 1)));
  expect(gguf, "blk.0.ssm_alpha.weight", shape({sizes_.value_heads(), h}),
         rows_in(linear("in_proj_a.weight"), h, tiled(sizes_, 1)));
  // The axis of one goes, the channels of values move with their heads, taps stay in their order.
  expect(gguf, "blk.0.ssm_conv1d.weight", shape({channels, sizes_.taps}),
         rows_in(linear("conv1d.weight"), sizes_.taps, tiled(sizes_, sizes_.dim, sizes_.keys())));
  expect(gguf, "blk.0.ssm_dt.bias", shape({sizes_.value_heads()}),
         columns_in(linear("dt_bias"), sizes_.value_heads(), tiled(sizes_, 1)));
  Numbers decays;
  for (const float a_log : columns_in(linear("A_log"), sizes_.value_heads(), tiled(sizes_, 1)))
    decays.push_back(static_cast<float>(-std::exp(static_cast<double>(a_log))));
  expect(gguf, "blk.0.ssm_a", shape({sizes_.value_heads()}), decays);
  expect(gguf, "blk.0.ssm_norm.weight", shape({sizes_.dim}), linear("norm.weight"));
  expect(gguf, "blk.0.ssm_out.weight", shape({h, sizes_.width()}),
         columns_in(linear("out_proj.weight"), sizes_.width(), tiled(sizes_, sizes_.dim)));

  // Attention has no such order, and its queries keep their gates beside them.
  expect(gguf, "blk.1.attn_q.weight", shape({2 * sizes_.heads * sizes_.head_dim, h}),
         text("layers.1.self_attn.q_proj.weight"));
  expect(gguf, "blk.1.attn_output.weight", shape({h, sizes_.heads * sizes_.head_dim}),
         text("layers.1.self_attn.o_proj.weight"));
  expect(gguf, "blk.1.attn_q_norm.weight", shape({sizes_.head_dim}),
         plus_one(text("layers.1.self_attn.q_norm.weight")));
  expect(gguf, "blk.1.attn_k_norm.weight", shape({sizes_.head_dim}),
         plus_one(text("layers.1.self_attn.k_norm.weight")));
  expect(gguf, "blk.0.attn_norm.weight", shape({h}), plus_one(text("layers.0.input_layernorm.weight")));
  expect(gguf, "blk.0.post_attention_norm.weight", shape({h}),
         plus_one(text("layers.0.post_attention_layernorm.weight")));
  expect(gguf, "output_norm.weight", shape({h}), plus_one(text("norm.weight")));
  // The MTP block stands behind the decoder's two.
  expect(gguf, "blk.2.nextn.eh_proj.weight", shape({h, 2 * h}), model_["mtp.fc.weight"]);
  expect(gguf, "blk.2.nextn.enorm.weight", shape({h}), plus_one(model_["mtp.pre_fc_norm_embedding.weight"]));
  expect(gguf, "blk.2.nextn.hnorm.weight", shape({h}), plus_one(model_["mtp.pre_fc_norm_hidden.weight"]));
  expect(gguf, "blk.2.nextn.shared_head_norm.weight", shape({h}), plus_one(model_["mtp.norm.weight"]));
  expect(gguf, "blk.2.attn_q_norm.weight", shape({sizes_.head_dim}),
         plus_one(model_["mtp.layers.0.self_attn.q_norm.weight"]));
  expect(gguf, "blk.2.ffn_down.weight", shape({h, sizes_.intermediate}), model_["mtp.layers.0.mlp.down_proj.weight"]);
}

TEST_P(HeadRatios, LeaveThePatchKernelToBeSplitByFrames) {
  convert(opened({model_.write(scratch_ / "hf")}), scratch_ / "m.gguf", "gguf");
  const Checkpoint mmproj = open_checkpoint(scratch_ / "mmproj-m.gguf");
  const Numbers& kernel = model_["model.visual.patch_embed.proj.weight"];  // [out, channel, frame, y, x]
  const std::size_t square = sizes_.patch * sizes_.patch;
  for (const std::size_t frame : {0U, 1U}) {
    Numbers slice;
    for (std::size_t out = 0; out < sizes_.tower; ++out) {
      for (std::size_t channel = 0; channel < 3; ++channel) {
        for (std::size_t pixel = 0; pixel < square; ++pixel)
          slice.push_back(kernel[((out * 3 + channel) * 2 + frame) * square + pixel]);
      }
    }
    expect(mmproj, frame == 0 ? "v.patch_embd.weight" : "v.patch_embd.weight.1",
           shape({sizes_.tower, 3, sizes_.patch, sizes_.patch}), slice);
  }
  expect(mmproj, "v.blk.0.ln1.weight", shape({sizes_.tower}), model_["model.visual.blocks.0.norm1.weight"]);
  expect(mmproj, "v.post_ln.weight", shape({sizes_.tower}), model_["model.visual.merger.norm.weight"]);
  expect(mmproj, "mm.2.weight", shape({sizes_.hidden, 4 * sizes_.tower}),
         model_["model.visual.merger.linear_fc2.weight"]);
}

TEST_P(HeadRatios, KeepTheirOrderInMlx) {
  convert(opened({model_.write(scratch_ / "hf")}), scratch_ / "mlx", "mlx");
  const Checkpoint mlx = open_checkpoint(scratch_ / "mlx");
  const std::string layer = "language_model.model.layers.0.";
  const std::size_t channels = sizes_.keys() + sizes_.width();
  expect(mlx, layer + "linear_attn.in_proj_qkv.weight", shape({channels, sizes_.hidden}), linear("in_proj_qkv.weight"));
  expect(mlx, layer + "linear_attn.out_proj.weight", shape({sizes_.hidden, sizes_.width()}), linear("out_proj.weight"));
  expect(mlx, layer + "linear_attn.conv1d.weight", shape({channels, sizes_.taps, 1}), linear("conv1d.weight"));
  expect(mlx, layer + "linear_attn.A_log", shape({sizes_.value_heads()}), linear("A_log"));
  expect(mlx, layer + "linear_attn.norm.weight", shape({sizes_.dim}), linear("norm.weight"));
  expect(mlx, layer + "input_layernorm.weight", shape({sizes_.hidden}),
         plus_one(text("layers.0.input_layernorm.weight")));
  const Numbers& kernel = model_["model.visual.patch_embed.proj.weight"];
  const std::size_t square = sizes_.patch * sizes_.patch;
  Numbers turned;  // [out, frame, y, x, channel]
  for (std::size_t out = 0; out < sizes_.tower; ++out) {
    for (std::size_t frame = 0; frame < 2; ++frame) {
      for (std::size_t pixel = 0; pixel < square; ++pixel) {
        for (std::size_t channel = 0; channel < 3; ++channel)
          turned.push_back(kernel[((out * 3 + channel) * 2 + frame) * square + pixel]);
      }
    }
  }
  expect(mlx, "vision_tower.patch_embed.proj.weight", shape({sizes_.tower, 2, sizes_.patch, sizes_.patch, 3}), turned);
}

TEST_P(HeadRatios, ComeBackFromEveryDialect) {
  convert(opened({model_.write(scratch_ / "hf")}), scratch_ / "m.gguf", "gguf");
  convert(opened({scratch_ / "hf"}), scratch_ / "mlx", "mlx");
  convert(opened({scratch_ / "mlx"}), scratch_ / "n.gguf", "gguf");
  convert(opened({scratch_ / "m.gguf", scratch_ / "mmproj-m.gguf"}), scratch_ / "of gguf", "safetensors");
  convert(opened({scratch_ / "mlx"}), scratch_ / "of mlx", "safetensors");
  convert(opened({scratch_ / "n.gguf", scratch_ / "mmproj-n.gguf"}), scratch_ / "of both", "safetensors");
  for (const char* way : {"of gguf", "of mlx", "of both"}) {
    const Checkpoint back = open_checkpoint(scratch_ / way);
    EXPECT_EQ(back.arrays.size(), model_.all().size()) << way;
    for (const auto& [name, numbers] : model_.all()) {
      SCOPED_TRACE(std::string(way) + ": " + name);
      EXPECT_EQ(stored(back, name).numbers, numbers);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ratios, HeadRatios,
                         ::testing::Values(Sizes{3, 1, 5}, Sizes{3, 2, 5}, Sizes{2, 3, 7}, Sizes{1, 4, 3},
                                           Sizes{5, 4, 1}, Sizes{16, 4, 2}),
                         [](const auto& test) {
                           return "keys" + std::to_string(test.param.key_heads) + "_ratio" +
                                  std::to_string(test.param.ratio) + "_dim" + std::to_string(test.param.dim);
                         });

}  // namespace
}  // namespace regauge
