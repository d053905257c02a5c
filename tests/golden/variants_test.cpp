#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "inspect/report.h"
#include "models/architecture.h"
#include "models/norm_shift.h"
#include "tests/support/golden.h"
#include "tests/support/patch.h"

// Checkpoints as other tools save them again: made of the golden ones by a patch, converted, and held against the files that
// llama.cpp's own converter made of the originals.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::SafetensorsPatch;
using testing::ScratchDir;
using Json = nlohmann::ordered_json;
using Array = SafetensorsPatch::Array;

/// A directory taken apart: all arrays of its shards, its configuration, its other files.
struct Variant {
  std::vector<Array> arrays;
  Json config;
  std::vector<fs::path> files;
  std::string shard_name = "model.safetensors-0000{}-of-00002.safetensors";  ///< as Qwen3.5 is published
  bool size_is_float = false;                                                ///< of the index

  explicit Variant(const fs::path& source) {
    std::vector<fs::path> shards;
    for (const auto& entry : fs::directory_iterator(source)) {
      const fs::path& path = entry.path();
      if (path.extension() == ".safetensors") shards.push_back(path);
      if (path.extension() != ".safetensors" && path.filename() != "config.json" && entry.is_regular_file() &&
          path.filename() != "model.safetensors.index.json")
        files.push_back(path);
    }
    std::ranges::sort(shards);
    for (const fs::path& shard : shards) {
      SafetensorsPatch patch(shard);
      std::ranges::move(patch.arrays, std::back_inserter(arrays));
    }
    config = Json::parse(testing::read_text(source / "config.json"));
  }

  Array& array(const std::string& name) {
    const auto found = std::ranges::find(arrays, name, &Array::name);
    if (found == arrays.end()) throw std::runtime_error("nothing here is called " + name);
    return *found;
  }

  void erase(const std::function<bool(const std::string&)>& predicate) {
    std::erase_if(arrays, [&](const Array& one) { return predicate(one.name); });
  }

  /// In two shards, the odd arrays in the second: an index is what tells where they are.
  fs::path write(const fs::path& folder) const {
    fs::create_directories(folder);
    for (const fs::path& file : files) {
      fs::copy_file(file, folder / file.filename());
      fs::permissions(folder / file.filename(), fs::perms::owner_write, fs::perm_options::add);
    }
    std::vector<Array> halves[2];
    Json map = Json::object();
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      halves[i % 2].push_back(arrays[i]);
      map[arrays[i].name] = name_of(i % 2);
    }
    for (const std::size_t half : {0U, 1U}) testing::write_safetensors(folder / name_of(half), halves[half]);
    std::uint64_t bytes = 0;
    for (const Array& array : arrays) bytes += array.bytes.size();
    const Json total = size_is_float ? Json(static_cast<double>(bytes)) : Json(bytes);
    const Json index{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    testing::write_text(folder / "model.safetensors.index.json", index.dump(2));
    testing::write_text(folder / "config.json", config.dump(2));
    return folder;
  }

 private:
  std::string name_of(std::size_t half) const {
    std::string name = shard_name;
    return name.replace(name.find("{}"), 2, std::to_string(half + 1));
  }
};

struct Opened {
  std::unique_ptr<Checkpoint> checkpoint;
  Findings found;  ///< by the architecture, which is made after it
  std::unique_ptr<const Architecture> architecture;

  explicit Opened(const fs::path& path)
      : checkpoint(std::make_unique<Checkpoint>(open_checkpoint(path))),
        architecture(recognise_by_data(*checkpoint, found)) {}

  bool has(std::string_view code) const {
    const auto report = inspect::examine(*checkpoint);
    return std::ranges::find(report.findings, code, &Finding::code) != report.findings.end();
  }
};

Findings convert(const Opened& source, const fs::path& target, const std::string& format) {
  ConvertOptions options;
  options.format = format;
  options.directory = format != "gguf";
  options.allow_dense = true;
  options.drop_vision = format == "mlx";
  const Plan plan = plan_conversion(*source.checkpoint, source.architecture.get(), target, options);
  execute(plan, *source.checkpoint, options);
  return plan.findings;
}

bool has(const Findings& findings, std::string_view code) {
  return std::ranges::find(findings, code, &Finding::code) != findings.end();
}

Bytes bytes_of(const Checkpoint& checkpoint, const StoredArray& array) {
  return checkpoint.files[array.file].file->read_range(array.offset, array.bytes);
}

Bytes bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const StoredArray* array = checkpoint.find_array(name);
  if (array == nullptr) {
    ADD_FAILURE() << "no array " << name;
    return {};
  }
  return bytes_of(checkpoint, *array);
}

/// Every array of the golden file that is `wanted`, and no other, with its type, shape and bytes. -exp(A_log) by another
/// library's f32 exp is up to 2 units in the last place away.
void expect_golden(const fs::path& golden_path, const fs::path& made_path,
                   const std::function<bool(const std::string&)>& wanted, const std::set<std::string>& aside = {}) {
  const Checkpoint golden = open_checkpoint(golden_path);
  const Checkpoint made = open_checkpoint(made_path);
  std::set<std::string> names;
  for (const StoredArray& expected : golden.arrays) {
    if (!wanted(expected.name)) continue;
    names.insert(expected.name);
    const StoredArray* array = made.find_array(expected.name);
    ASSERT_NE(array, nullptr) << expected.name;
    EXPECT_EQ(array->shape, expected.shape) << expected.name;
    if (std::ranges::any_of(aside, [&](const std::string& end) { return expected.name.ends_with(end); })) continue;
    EXPECT_EQ(element_name(*array), element_name(expected)) << expected.name;
    const Bytes a = bytes_of(golden, expected);
    const Bytes b = bytes_of(made, *array);
    if (!expected.name.ends_with(".ssm_a")) {
      EXPECT_TRUE(a == b) << expected.name;
      continue;
    }
    for (std::size_t i = 0; i < a.size(); i += 4) {
      const auto away = static_cast<std::int64_t>(load_le<std::int32_t>(a.data() + i)) -
                        static_cast<std::int64_t>(load_le<std::int32_t>(b.data() + i));
      EXPECT_LE(std::abs(away), 2) << expected.name;
    }
  }
  for (const StoredArray& array : made.arrays) EXPECT_TRUE(names.contains(array.name)) << array.name;
  EXPECT_GT(names.size(), 40U);
}

constexpr const char* kBf16 = "qwen35_family/hf-bf16";
constexpr const char* kBf16Gguf = "qwen35_family/hf-bf16.gguf";
constexpr const char* kGptq = "qwen35_family/gptq-int4-g128-noact";
constexpr const char* kGptqGguf = "qwen35_family/gptq-int4-g128-noact.gguf";

bool everything(const std::string&) { return true; }
bool trunk(const std::string& name) { return !name.starts_with("blk.4."); }
bool is_vision(const std::string& name) { return name.find("visual.") != std::string::npos; }

/// The norms that multiply by 1 + w.
bool is_offset_norm(const std::string& name) {
  return name.ends_with(".weight") && name.find("norm") != std::string::npos &&
         name.find("linear_attn") == std::string::npos && !is_vision(name);
}

// Text-only saves: the class Qwen3_5ForCausalLM keeps its sizes at the root and its weights below "model.".

Variant text_only(const fs::path& source) {
  Variant variant(source);
  variant.erase(is_vision);
  variant.erase([](const std::string& name) { return name.starts_with("mtp."); });
  for (Array& array : variant.arrays) {
    if (const auto at = array.name.find("language_model."); at != std::string::npos) array.name.erase(at, 15);
  }
  Json flat = variant.config["text_config"];
  flat["architectures"] = Json::array({"Qwen3_5ForCausalLM"});
  flat["model_type"] = "qwen3_5_text";
  flat["tie_word_embeddings"] = false;
  if (variant.config.contains("quantization_config"))
    flat["quantization_config"] = variant.config["quantization_config"];
  variant.config = flat;
  return variant;
}

TEST(TextOnlySave, GivesTheGgufOfTheWholeModelAndItsOwnNamesBack) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kBf16Gguf);
  const ScratchDir scratch;
  const Variant variant = text_only(source);
  const Opened opened(variant.write(scratch / "text"));
  EXPECT_TRUE(opened.has("mtp-announced-absent"));
  EXPECT_FALSE(opened.has("vision-announced-absent"));
  EXPECT_FALSE(opened.has("tensor-unknown"));
  convert(opened, scratch / "m.gguf", "gguf");
  EXPECT_FALSE(fs::exists(scratch / "mmproj-m.gguf"));
  expect_golden(golden, scratch / "m.gguf", trunk);
  const Checkpoint made = open_checkpoint(scratch / "m.gguf");
  EXPECT_EQ(made.metadata.get_uint("qwen35.block_count"), 4U);
  EXPECT_EQ(made.metadata.find("qwen35.nextn_predict_layers"), nullptr);
  for (const char* target : {"back", "mlx"}) {
    convert(Opened(scratch / "m.gguf"), scratch / target, std::string(target) == "mlx" ? "mlx" : "safetensors");
  }
  const Checkpoint back = open_checkpoint(scratch / "back");
  EXPECT_EQ(back.arrays.size(), variant.arrays.size());
  for (const Array& array : variant.arrays) EXPECT_TRUE(bytes_of(back, array.name) == array.bytes) << array.name;
  EXPECT_EQ((*back.config)["architectures"][0], "Qwen3_5ForCausalLM");
  EXPECT_NE(open_checkpoint(scratch / "mlx").find_array("language_model.model.layers.0.mlp.up_proj.weight"), nullptr);
}

TEST(TextOnlySave, OfAGptqCheckpointGivesItsGgufToo) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kGptq);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kGptqGguf);
  const ScratchDir scratch;
  const Opened opened(text_only(source).write(scratch / "text"));
  EXPECT_EQ(opened.checkpoint->format, "gptq");
  convert(opened, scratch / "m.gguf", "gguf");
  expect_golden(golden, scratch / "m.gguf", everything);
}

// Tied heads, as 0.8B, 2B and 4B have them.

struct TiedCase {
  std::string name;
  bool at_root = true;
  bool stored = false;
};
std::ostream& operator<<(std::ostream& out, const TiedCase& c) { return out << c.name; }

class TiedHead : public ::testing::TestWithParam<TiedCase> {};

TEST_P(TiedHead, IsTheEmbeddingInEveryFormat) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kBf16Gguf);
  const ScratchDir scratch;
  Variant variant(source);
  variant.config.erase("tie_word_embeddings");
  (GetParam().at_root ? variant.config : variant.config["text_config"])["tie_word_embeddings"] = true;
  if (GetParam().stored) {
    variant.array("lm_head.weight").bytes = variant.array("model.language_model.embed_tokens.weight").bytes;
  } else {
    variant.erase([](const std::string& name) { return name == "lm_head.weight"; });
  }
  const Opened opened(variant.write(scratch / "tied"));
  EXPECT_TRUE(opened.architecture->tied_head());
  EXPECT_TRUE(opened.has(GetParam().stored ? "head-tied-but-stored" : "head-tied"));
  const Findings findings = convert(opened, scratch / "m.gguf", "gguf");
  EXPECT_EQ(has(findings, "head-tied-copy"), GetParam().stored);
  expect_golden(golden, scratch / "m.gguf", [](const std::string& name) { return name != "output.weight"; });
  // mlx-lm refuses a head beside a tied embedding.
  convert(opened, scratch / "mlx", "mlx");
  EXPECT_EQ(open_checkpoint(scratch / "mlx").find_array("language_model.lm_head.weight"), nullptr);
  convert(Opened(scratch / "m.gguf"), scratch / "back", "safetensors");
  const Checkpoint back = open_checkpoint(scratch / "back");
  EXPECT_EQ(back.find_array("lm_head.weight"), nullptr);
  EXPECT_EQ((*back.config)["tie_word_embeddings"], true);
  EXPECT_TRUE(recognise(back)->tied_head());
}

INSTANTIATE_TEST_SUITE_P(Said, TiedHead,
                         ::testing::Values(TiedCase{"at_the_root"}, TiedCase{"in_text_config", false},
                                           TiedCase{"and_stored_all_the_same", true, true}),
                         [](const auto& test) { return test.param.name; });

TEST(TiedHeadOfGptq, IsTheEmbeddingInItsGguf) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kGptq);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kGptqGguf);
  const ScratchDir scratch;
  Variant variant(source);
  variant.config["tie_word_embeddings"] = true;
  variant.erase([](const std::string& name) { return name == "lm_head.weight"; });
  convert(Opened(variant.write(scratch / "tied")), scratch / "m.gguf", "gguf");
  expect_golden(golden, scratch / "m.gguf", [](const std::string& name) { return name != "output.weight"; });
}

TEST(TiedHeadOfMlx, IsTheQuantizedEmbeddingInItsGguf) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, "qwen35_family/mlx-4bit");
  const ScratchDir scratch;
  convert(Opened(source), scratch / "whole.gguf", "gguf");
  Variant variant(source);
  variant.config["tie_word_embeddings"] = true;
  variant.erase([](const std::string& name) { return name.starts_with("language_model.lm_head."); });
  const Opened opened(variant.write(scratch / "tied"));
  EXPECT_TRUE(opened.has("head-tied"));
  convert(opened, scratch / "m.gguf", "gguf");
  const Checkpoint whole = open_checkpoint(scratch / "whole.gguf");
  const Checkpoint made = open_checkpoint(scratch / "m.gguf");
  EXPECT_EQ(made.find_array("output.weight"), nullptr);
  EXPECT_EQ(made.arrays.size() + 1, whole.arrays.size());
  EXPECT_TRUE(bytes_of(made, "token_embd.weight") == bytes_of(whole, "token_embd.weight"));
}

// Qwen3.6 and 3.8 keep the pair of small tensors in BF16, which a cast of Qwen3.5 does too.

/// Position h of GGUF's order has head (h mod key heads) * ratio + h / key heads.
std::vector<float> decays(const std::vector<float>& a_log, std::size_t key_heads) {
  std::vector<float> out;
  const std::size_t ratio = a_log.size() / key_heads;
  for (std::size_t h = 0; h < a_log.size(); ++h)
    out.push_back(static_cast<float>(-std::exp(static_cast<double>(a_log[h % key_heads * ratio + h / key_heads]))));
  return out;
}

TEST(StorageOfQwen36, GivesTheGgufWithWhatItsPairIsWorth) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kBf16Gguf);
  const ScratchDir scratch;
  Variant variant(source);
  for (Array& array : variant.arrays) {
    if (array.dtype != "F32") continue;
    array.bytes = testing::to_bf16(testing::from_f32(array.bytes));
    array.dtype = "BF16";
  }
  variant.shard_name = "model-0000{}-of-00002.safetensors";
  variant.size_is_float = true;  // 3.8 has 55562855904.0
  variant.config["language_model_only"] = false;
  variant.config["text_config"]["output_gate_type"] = "swish";
  variant.config["text_config"]["pad_token_id"] = nullptr;
  variant.config["text_config"]["tie_word_embeddings"] = false;
  variant.config["text_config"].erase("mlp_only_layers");
  const Opened opened(variant.write(scratch / "36"));
  EXPECT_TRUE(opened.has("f32-pair-cast"));
  EXPECT_FALSE(opened.has("tensor-missing"));
  EXPECT_TRUE(opened.checkpoint->findings.empty()) << opened.checkpoint->findings.front().message;
  convert(opened, scratch / "m.gguf", "gguf");
  expect_golden(golden, scratch / "m.gguf", everything, {"ssm_a", "ssm_norm.weight"});
  const Checkpoint made = open_checkpoint(scratch / "m.gguf");
  for (const int layer : {0, 1, 2}) {
    const std::string hf = "model.language_model.layers." + std::to_string(layer) + ".linear_attn.";
    const std::string gguf = "blk." + std::to_string(layer) + ".";
    EXPECT_EQ(testing::from_f32(bytes_of(made, gguf + "ssm_a")),
              decays(testing::from_bf16(variant.array(hf + "A_log").bytes), 2));
    EXPECT_EQ(testing::from_f32(bytes_of(made, gguf + "ssm_norm.weight")),
              testing::from_bf16(variant.array(hf + "norm.weight").bytes));
  }
  // The other directories keep what they were given.
  convert(opened, scratch / "mlx", "mlx");
  const Checkpoint mlx = open_checkpoint(scratch / "mlx");
  const std::string leaf = "layers.0.linear_attn.A_log";
  EXPECT_EQ(element_name(*mlx.find_array("language_model.model." + leaf)), "BF16");
  EXPECT_TRUE(bytes_of(mlx, "language_model.model." + leaf) == variant.array("model.language_model." + leaf).bytes);
  // And back: the same numbers.
  convert(Opened(scratch / "m.gguf"), scratch / "back", "safetensors");
  const Checkpoint back = open_checkpoint(scratch / "back");
  const StoredArray* a_log = back.find_array("model." + leaf);
  ASSERT_NE(a_log, nullptr);
  const Bytes bytes = bytes_of(back, *a_log);
  EXPECT_EQ(element_name(*a_log) == "BF16" ? testing::from_bf16(bytes) : testing::from_f32(bytes),
            testing::from_bf16(variant.array("model.language_model." + leaf).bytes));
}

TEST(MissingMtp, IsWrittenAsTheTensorsSay) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kBf16Gguf);
  const ScratchDir scratch;
  Variant variant(source);
  variant.erase([](const std::string& name) { return name.starts_with("mtp."); });
  const Opened opened(variant.write(scratch / "without"));
  EXPECT_TRUE(opened.has("mtp-announced-absent"));
  const Findings findings = convert(opened, scratch / "m.gguf", "gguf");
  EXPECT_TRUE(has(findings, "mtp-announced-absent"));
  expect_golden(golden, scratch / "m.gguf", trunk);
  const Checkpoint made = open_checkpoint(scratch / "m.gguf");
  EXPECT_EQ(made.metadata.get_uint("qwen35.block_count"), 4U);
  EXPECT_EQ(made.metadata.find("qwen35.nextn_predict_layers"), nullptr);
}

TEST(MissingMtp, OfEveryKindOfDirectoryGivesAGgufWithoutIt) {
  for (const char* name :
       {"qwen35_family/gptq-int4-g64", "qwen35_family/gptq-int4-g128-noact", "qwen35_family/mlx-4bit"}) {
    REGAUGE_FULL_GOLDEN_OR_SKIP(source, name);
    SCOPED_TRACE(name);
    const ScratchDir scratch;
    const Opened opened(source);
    EXPECT_TRUE(has(convert(opened, scratch / "m.gguf", "gguf"), "mtp-announced-absent"));
    const Checkpoint made = open_checkpoint(scratch / "m.gguf");
    EXPECT_EQ(made.metadata.get_uint("qwen35.block_count"), 4U);
    EXPECT_EQ(made.metadata.find("qwen35.nextn_predict_layers"), nullptr);
  }
}

// Norms that somebody shifted already, or never.

enum class Stored { f32, bf16 };

/// Adds `by` to every norm that has an offset; in F32 nothing is lost.
void shift_norms(std::vector<Array>& arrays, float by, Stored stored) {
  for (Array& array : arrays) {
    if (!is_offset_norm(array.name)) continue;
    std::vector<float> values = array.dtype == "F32" ? testing::from_f32(array.bytes) : testing::from_bf16(array.bytes);
    for (float& value : values) value += by;
    array.bytes = stored == Stored::f32 ? testing::to_f32(values) : testing::to_bf16(values);
    array.dtype = stored == Stored::f32 ? "F32" : "BF16";
  }
}

TEST(ShiftedNorms, OfAHuggingFaceDirectoryGiveTheGgufOfTheOriginal) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kBf16Gguf);
  const ScratchDir scratch;
  const Variant original(source);
  Variant variant(source);
  shift_norms(variant.arrays, 1, Stored::f32);
  const Opened opened(variant.write(scratch / "shifted"));
  EXPECT_TRUE(has(opened.found, "norms-by-data"));
  EXPECT_EQ(std::ranges::count(opened.found, "norms-by-data", &Finding::code), 2);  // the model's, and MTP's
  convert(opened, scratch / "m.gguf", "gguf");
  expect_golden(golden, scratch / "m.gguf", everything);
  // Written anew in its own format it is what loaders expect: the original's bytes, but for offsets below 2^-16, of which
  // 1 + w has lost digits.
  convert(opened, scratch / "anew", "safetensors");
  const Checkpoint anew = open_checkpoint(scratch / "anew");
  std::size_t same = 0;
  for (const Array& array : original.arrays) {
    const Bytes bytes = bytes_of(anew, array.name);
    same += bytes == array.bytes ? 1 : 0;
    if (!is_offset_norm(array.name) || bytes == array.bytes) {
      EXPECT_TRUE(bytes == array.bytes) << array.name;
      continue;
    }
    std::vector<float> expected = testing::from_bf16(array.bytes);
    std::vector<float> found = testing::from_bf16(bytes);
    for (auto* values : {&expected, &found}) {
      for (float& value : *values) value += 1;
    }
    EXPECT_EQ(found, expected) << array.name;
  }
  EXPECT_GT(same, original.arrays.size() - 4);
  EXPECT_FALSE(has(Opened(scratch / "anew").found, "norms-by-data"));
}

TEST(ShiftedNorms, InBf16AreTakenAsTheyLie) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  const ScratchDir scratch;
  Variant variant(source);
  shift_norms(variant.arrays, 1, Stored::bf16);
  const Opened opened(variant.write(scratch / "shifted"));
  convert(opened, scratch / "m.gguf", "gguf");
  convert(opened, scratch / "mlx", "mlx");
  const Checkpoint gguf = open_checkpoint(scratch / "m.gguf");
  const Checkpoint mlx = open_checkpoint(scratch / "mlx");
  const Bytes& stored = variant.array("model.language_model.layers.3.self_attn.q_norm.weight").bytes;
  EXPECT_EQ(testing::from_f32(bytes_of(gguf, "blk.3.attn_q_norm.weight")), testing::from_bf16(stored));
  EXPECT_TRUE(bytes_of(mlx, "language_model.model.layers.3.self_attn.q_norm.weight") == stored);
}

TEST(ShiftedNorms, OfAGptqDirectoryGiveTheGgufOfTheOriginal) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kGptq);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kGptqGguf);
  const ScratchDir scratch;
  Variant variant(source);
  shift_norms(variant.arrays, 1, Stored::f32);
  const Opened opened(variant.write(scratch / "shifted"));
  EXPECT_TRUE(has(opened.found, "norms-by-data"));
  convert(opened, scratch / "m.gguf", "gguf");
  expect_golden(golden, scratch / "m.gguf", everything);
}

TEST(UnshiftedNorms, OfAnMlxDirectoryGetTheirOne) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, "qwen35_family/mlx-4bit");
  const ScratchDir scratch;
  const Variant original(source);
  Variant variant(source);
  shift_norms(variant.arrays, -1, Stored::f32);  // exact: what lies around 1 has no digits that w could not hold
  const Opened opened(variant.write(scratch / "raw"));
  EXPECT_TRUE(has(opened.found, "norms-by-data"));
  convert(opened, scratch / "m.gguf", "gguf");
  const Checkpoint made = open_checkpoint(scratch / "m.gguf");
  for (const auto& [mlx, gguf] : {std::pair("layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
                                  std::pair("layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"),
                                  std::pair("norm.weight", "output_norm.weight")}) {
    const auto found = std::ranges::find(original.arrays, std::string("language_model.model.") + mlx, &Array::name);
    ASSERT_NE(found, original.arrays.end());
    EXPECT_EQ(testing::from_f32(bytes_of(made, gguf)), testing::from_bf16(found->bytes)) << mlx;
  }
}

TEST(UnshiftedNorms, OfAGgufGetTheirOneWhenItIsWrittenAnew) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kBf16Gguf);
  const ScratchDir scratch;
  testing::GgufPatch patch(golden);
  for (auto& tensor : patch.tensors) {
    if (tensor.name.find("norm.weight") == std::string::npos || tensor.name.find("ssm_norm") != std::string::npos)
      continue;
    std::vector<float> values = testing::from_f32(tensor.bytes);
    for (float& value : values) value -= 1;
    tensor.bytes = testing::to_f32(values);
  }
  patch.save(scratch / "raw.gguf");
  const Opened opened(scratch / "raw.gguf");
  EXPECT_TRUE(has(opened.found, "norms-by-data"));
  convert(opened, scratch / "m.gguf", "gguf");
  expect_golden(golden, scratch / "m.gguf", everything);
}

TEST(NormsAsAnnounced, AreWhatRecogniseAloneGoesBy) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kBf16);
  const ScratchDir scratch;
  Variant variant(source);
  shift_norms(variant.arrays, 1, Stored::f32);
  Opened opened(variant.write(scratch / "shifted"));
  opened.architecture = recognise(*opened.checkpoint);
  convert(opened, scratch / "m.gguf", "gguf");
  std::vector<float> twice =
      testing::from_f32(variant.array("model.language_model.layers.3.self_attn.q_norm.weight").bytes);
  for (float& value : twice) value += 1;
  EXPECT_EQ(testing::from_f32(bytes_of(open_checkpoint(scratch / "m.gguf"), "blk.3.attn_q_norm.weight")), twice);
}

TEST(NormsOfGoldenCheckpoints, LieAsAnnounced) {
  for (const char* name : {"qwen35_family/hf-bf16", "qwen35_family/gptq-mixed-eora", "qwen35_family/gptq-int4-g64",
                           "qwen35_family/gptq-int4-g128-noact", "qwen35_family/mlx-8865", "qwen35_family/mlx-4bit",
                           "qwen35_family/hf-bf16.gguf", "qwen35_tiny/hf", "qwen35_tiny/tiny-mtp.gguf",
                           "qwen35_tiny_moe/hf", "qwen35_tiny_moe/tiny-mtp.gguf", "gguf/tiny-qwen35-q4_k_m.gguf"}) {
    REGAUGE_FULL_GOLDEN_OR_SKIP(path, name);
    EXPECT_TRUE(Opened(path).found.empty()) << name;
  }
}

}  // namespace
}  // namespace regauge
