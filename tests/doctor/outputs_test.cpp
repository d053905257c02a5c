// Nothing is wrong with what the program itself writes: every golden checkpoint in every format, by recipes, grafted, merged.
#include <filesystem>
#include <string>
#include <vector>

#include "tests/doctor/ward.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

const std::string kFamily = "qwen35_family/";

struct Conversion {
  std::string source;  ///< below the golden data
  std::string target;  ///< a name; its extension tells the format where it has one
  std::vector<std::string> options;
  std::string fault;  ///< that the source has and a copy keeps; empty for none
};

std::ostream& operator<<(std::ostream& out, const Conversion& one) { return out << one.source << " to " << one.target; }

class DoctorOutputs : public testing::DoctorWard, public ::testing::WithParamInterface<Conversion> {
 protected:
  /// Every checkpoint that a run has left.
  std::vector<Path> written() const {
    std::vector<Path> paths;
    for (const auto& entry : fs::directory_iterator(scratch().path())) {
      const std::string name = entry.path().filename();
      const bool later = name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
      if (!later) paths.push_back(entry.path());
    }
    return paths;
  }
};

TEST_P(DoctorOutputs, AreHealthy) {
  const Conversion& conversion = GetParam();
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, conversion.source);
  std::vector<std::string> words{"convert", source.string(), (scratch() / conversion.target).string(), "--quiet"};
  words.insert(words.end(), conversion.options.begin(), conversion.options.end());
  run(words);
  const std::vector<Path> paths = written();
  ASSERT_FALSE(paths.empty());
  const std::vector<std::string> expected =
      conversion.fault.empty() ? std::vector<std::string>{} : std::vector{conversion.fault};
  for (const Path& path : paths) EXPECT_EQ(faults(path), expected) << path.filename();
}

std::vector<Conversion> every_format() {
  struct Source {
    std::string path;
    std::string format;
    bool announces_mtp = false;  ///< and has none
    bool has_statistics = true;  ///< of images, without which its tower has no file of its own
  };
  const std::vector<Source> sources{{kFamily + "hf-bf16", "safetensors"},
                                    {kFamily + "gptq-mixed-eora", "gptq"},
                                    {kFamily + "gptq-int4-g64", "gptq", true},
                                    {kFamily + "gptq-int4-g128-noact", "gptq", true},
                                    {kFamily + "mlx-8865", "mlx"},
                                    {kFamily + "mlx-4bit", "mlx"},
                                    {kFamily + "hf-bf16.gguf", "gguf"},
                                    {kFamily + "hf-bf16-q4_0.gguf", "gguf"},
                                    {kFamily + "gptq-int4-g128-noact.gguf", "gguf"},
                                    {"qwen35_tiny/hf", "safetensors", false, false},
                                    {"qwen35_tiny/tiny-mtp.gguf", "gguf"},
                                    {"qwen35_tiny_moe/hf", "safetensors", false, false},
                                    {"qwen35_tiny_moe/tiny.gguf", "gguf"},
                                    {"qwen35_tiny_moe/tiny-mtp.gguf", "gguf"}};
  std::vector<Conversion> all;
  for (const Source& source : sources) {
    const auto add = [&](const std::string& format, const std::string& target, std::vector<std::string> options) {
      const bool keeps = source.announces_mtp && (format == "container" || format == source.format);
      options.insert(options.end(), {"--to", format});
      all.push_back({source.path, target, std::move(options), keeps ? "mtp-announced-absent" : ""});
    };
    std::vector<std::string> gguf{"--allow", "dense"};
    if (!source.has_statistics) gguf.insert(gguf.end(), {"--drop", "vision"});
    add("gguf", "model.gguf", gguf);
    add("gptq", "model", {"--allow", "dense"});
    add("mlx", "model", {"--allow", "dense"});
    add("safetensors", "model", {"--dense", "f32"});
    add("container", "model.rg.gguf", {});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(InEveryFormat, DoctorOutputs, ::testing::ValuesIn(every_format()));

std::vector<Conversion> every_recipe() {
  std::vector<Conversion> all;
  for (const std::string source : {"hf-bf16", "gptq-mixed-eora"}) {
    for (const char* recipe : {"proposal-c", "mlx-4bit", "mlx-mxfp4", "mlx-mxfp8", "mlx-nvfp4"})
      all.push_back({kFamily + source, "model", {"--to", "mlx", "--recipe", recipe}, ""});
    for (const char* recipe : {"int4-g64", "int4-g128", "int8-g128", "int3-g128", "int2-g64", "int4-g-1",
                               "int8-attention-int4", "int4-g128-asym"})
      all.push_back({kFamily + source, "model", {"--to", "gptq", "--recipe", recipe}, ""});
    for (const char* recipe : {"Q4_0", "Q4_K_M", "Q8_0", "IQ4_NL", "BF16", "proposal-c", "int4-g64"})
      all.push_back({kFamily + source, "model.gguf", {"--recipe", recipe}, ""});
    for (const char* layout : {"v2", "planar", "marlin"})
      all.push_back(
          {kFamily + source, "model", {"--to", "gptq", "--recipe", "int4-g128", "--layout", layout, "--fresh"}, ""});
    all.push_back(
        {kFamily + source, "model", {"--to", "safetensors", "--dense", "bf16", "--drop", "mtp,vision,eora"}, ""});
    all.push_back(
        {kFamily + source, "model", {"--to", "safetensors", "--dense", "bf16", "--split-max-size", "500000"}, ""});
    all.push_back({kFamily + source, "model.gguf", {"--allow", "dense", "--split-max-size", "3000000"}, ""});
    all.push_back(
        {kFamily + source,
         "model.gguf",
         {"--allow", "dense", "--outputs", source == "hf-bf16" ? "model,mtp,mmproj" : "model,mtp,mmproj,adapter"},
         ""});
    all.push_back({kFamily + source, "model.gguf", {"--allow", "dense", "--drop", "mtp"}, ""});
  }
  for (const char* model : {"qwen35_tiny/hf", "qwen35_tiny_moe/hf"}) {
    for (const char* recipe : {"int4-g64", "int4-g32", "int8-attention-int4"})
      all.push_back({model, "model", {"--to", "gptq", "--recipe", recipe}, ""});
    all.push_back({model, "model", {"--to", "mlx", "--recipe", "proposal-c"}, ""});
    all.push_back({model, "model.gguf", {"--recipe", "Q4_K_M", "--drop", "vision"}, ""});
  }
  const std::string eora = kFamily + "gptq-mixed-eora";
  all.push_back({eora, "model.gguf", {"--eora", "merge", "--dense", "bf16"}, ""});
  all.push_back({eora, "model", {"--to", "safetensors", "--eora", "merge", "--dense", "f32"}, ""});
  all.push_back({eora, "model.gguf", {"--eora", "merge", "--recipe", "Q8_0", "--allow", "dense"}, ""});
  all.push_back({eora, "model", {"--to", "mlx", "--eora", "merge", "--recipe", "mlx-8bit", "--allow", "dense"}, ""});
  return all;
}

INSTANTIATE_TEST_SUITE_P(ByRecipes, DoctorOutputs, ::testing::ValuesIn(every_recipe()));

struct Grafting {
  std::string base;
  std::string target;
  std::vector<std::pair<std::string, std::string>> parts;  ///< option and golden donor
  std::vector<std::string> options = {};
};

class DoctorGrafts : public DoctorOutputs {};

TEST_F(DoctorGrafts, AreHealthy) {
  const std::vector<Grafting> all{
      {"gptq-int4-g64", "g64", {{"--mtp", "hf-bf16"}}},
      {"gptq-int4-g128-noact", "noact", {{"--mtp", "hf-bf16.gguf"}}},
      {"gptq-int4-g128-noact", "noact-quantized", {{"--mtp", "hf-bf16"}}, {"--recipe", "int4-g128"}},
      {"gptq-int4-g64", "g64-eora", {{"--mtp", "hf-bf16"}, {"--eora", "gptq-mixed-eora/eora"}}},
      {"gptq-mixed-eora", "replaced", {{"--mtp", "hf-bf16"}, {"--vision", "hf-bf16"}}, {"--replace"}},
      {"mlx-4bit", "mlx-mtp", {{"--mtp", "hf-bf16"}}},
      {"mlx-4bit", "mlx-vision", {{"--vision", "hf-bf16"}}},
      {"mlx-4bit", "mlx-quantized", {{"--mtp", "hf-bf16"}}, {"--recipe", "mlx-4bit"}},
      {"mlx-8865",
       "mlx-all",
       {{"--mtp", "hf-bf16"}, {"--vision", "hf-bf16.mmproj.gguf"}, {"--eora", "gptq-mixed-eora/eora"}}},
      {"gptq-int4-g128-noact.gguf", "model.gguf", {{"--mtp", "hf-bf16.gguf"}, {"--vision", "hf-bf16.mmproj.gguf"}}},
      {"gptq-int4-g128-noact.gguf", "eora.gguf", {{"--eora", "gptq-mixed-eora/eora"}}}};
  for (const Grafting& grafting : all) {
    SCOPED_TRACE(grafting.target);
    REGAUGE_FULL_GOLDEN_OR_SKIP(base, kFamily + grafting.base);
    std::vector<std::string> words{"graft", base.string(), (scratch() / grafting.target).string(), "--quiet"};
    for (const auto& [option, donor] : grafting.parts) {
      REGAUGE_FULL_GOLDEN_OR_SKIP(path, kFamily + donor);
      words.insert(words.end(), {option, path.string()});
    }
    words.insert(words.end(), grafting.options.begin(), grafting.options.end());
    run(words);
  }
  // All three shards had something of the parts that made way; what is one file has the name that needs no index.
  EXPECT_TRUE(fs::exists(scratch() / "replaced/model.safetensors"));
  for (const Path& path : written()) EXPECT_EQ(faults(path), std::vector<std::string>{}) << path.filename();
}

class DoctorAdapters : public testing::DoctorWard {};

TEST_F(DoctorAdapters, OfOthersAreHealthy) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(folder, kFamily + "gptq-mixed-eora/eora");
  REGAUGE_FULL_GOLDEN_OR_SKIP(file, kFamily + "gptq-mixed-eora.adapter.gguf");
  EXPECT_EQ(faults(folder), std::vector<std::string>{});
  EXPECT_EQ(faults(file), std::vector<std::string>{});
}

}  // namespace
}  // namespace regauge
