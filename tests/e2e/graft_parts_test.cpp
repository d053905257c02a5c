// What the finished program makes of bases that have a part already, that are text only, or that lie in a container; and what
// is left when it is stopped.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/patch.h"
#include "verify/doctor.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using testing::patch_json;
using testing::run_command;
using testing::SafetensorsPatch;
using testing::sample_path;
using testing::ScratchDir;

constexpr const char* kFirst = "model.safetensors-00001-of-00002.safetensors";
constexpr const char* kSecond = "model.safetensors-00002-of-00002.safetensors";
const std::string kTiny = sample_path("qwen35-bf16-tiny");

testing::CommandResult regauge(std::vector<std::string> words) {
  words.insert(words.begin(), REGAUGE_CLI);
  return run_command(words);
}

void run_well(const std::vector<std::string>& words) {
  const auto run = regauge(words);
  ASSERT_EQ(run.exit_code, 0) << run.err;
}

std::string faults_of(const fs::path& path) {
  std::string codes;
  for (const Ailment& ailment : diagnose(path).ailments) {
    if (ailment.finding.severity == Severity::fault) codes += ailment.finding.code + " ";
  }
  return codes;
}

/// The values of all weights are equal by `regauge diff`, in effective form; `diff` looks at weights alone when it is given a name
/// that all of them have a part of.
void expect_equal(const std::string& a, const std::string& b) {
  const auto run = regauge({"diff", a, b, "--only", "*"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
}

Json json_of(const fs::path& path) { return Json::parse(testing::read_text(path)); }

class GraftParts : public ::testing::Test {
 protected:
  /// The tiny sample with numbers of its own in one array.
  std::string changed(const std::string& name, const std::string& array) {
    const fs::path to = scratch_ / name;
    fs::copy(kTiny, to);
    for (const char* shard : {kFirst, kSecond}) {
      SafetensorsPatch patch(to / shard);
      for (auto* one : patch.ending(array)) std::reverse(one->bytes.begin(), one->bytes.end() - 1);
      patch.save(to / shard);
    }
    return to;
  }
  std::string path(const std::string& name) const { return scratch_ / name; }

  ScratchDir scratch_;
};

TEST_F(GraftParts, AnMtpLayerThatTheBaseHasMakesWay) {
  // The base has another MTP layer than the sample, which gives its own.
  const std::string base = changed("base", "mtp.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(regauge({"diff", base, kTiny, "-q"}).exit_code, 1);
  const auto refused = regauge({"graft", base, path("out"), "--mtp", kTiny});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.err.find("--replace"), std::string::npos) << refused.err;
  run_well({"graft", base, path("out"), "--mtp", kTiny, "--replace", "--verify", "-q"});
  expect_equal(path("out"), kTiny);
  EXPECT_EQ(faults_of(path("out")), "");
  run_well({"verify", path("out"), "-q"});
}

TEST_F(GraftParts, AShardWithoutThatLayerIsTakenOverByteForByte) {
  const std::string base = changed("base", "mtp.layers.0.mlp.up_proj.weight");
  // All of the MTP layer into the second shard.
  SafetensorsPatch first(fs::path(base) / kFirst);
  SafetensorsPatch second(fs::path(base) / kSecond);
  for (const auto& array : first.arrays) {
    if (array.name.starts_with("mtp.")) second.arrays.push_back(array);
  }
  first.erase([](const std::string& name) { return name.starts_with("mtp."); });
  first.save(fs::path(base) / kFirst);
  second.save(fs::path(base) / kSecond);
  patch_json(fs::path(base) / "model.safetensors.index.json", [](Json& index) {
    for (auto& [name, shard] : index["weight_map"].items()) {
      if (name.starts_with("mtp.")) shard = kSecond;
    }
  });
  ASSERT_EQ(faults_of(base), "");
  run_well({"graft", base, path("out"), "--mtp", kTiny, "--replace", "--link", "-q"});
  EXPECT_TRUE(fs::equivalent(path("out") + "/" + kFirst, fs::path(base) / kFirst));
  EXPECT_FALSE(fs::equivalent(path("out") + "/" + kSecond, fs::path(base) / kSecond));
  expect_equal(path("out"), kTiny);
  EXPECT_EQ(faults_of(path("out")), "");
}

TEST_F(GraftParts, ATowerThatTheBaseHasMakesWay) {
  const std::string base = changed("base", "model.visual.merger.linear_fc2.weight");
  run_well({"graft", base, path("out"), "--vision", kTiny, "--replace", "-q"});
  expect_equal(path("out"), kTiny);
  EXPECT_EQ(faults_of(path("out")), "");
}

TEST_F(GraftParts, AnMtpBlockOfAGgufMakesWay) {
  const std::string base = changed("base", "mtp.layers.0.mlp.up_proj.weight");
  run_well({"convert", base, path("base.gguf"), "--drop", "vision", "-q"});
  run_well({"convert", kTiny, path("whole.gguf"), "--drop", "vision", "-q"});
  run_well({"graft", path("base.gguf"), path("out.gguf"), "--mtp", kTiny, "--replace", "-q"});
  expect_equal(path("out.gguf"), path("whole.gguf"));
  EXPECT_EQ(faults_of(path("out.gguf")), "");
}

TEST_F(GraftParts, AnMtpFileOfAnMlxDirectoryMakesWay) {
  const std::string base = changed("base", "mtp.layers.0.mlp.up_proj.weight");
  run_well({"convert", base, path("mlx"), "--to", "mlx", "--drop", "vision", "-q"});
  run_well({"convert", kTiny, path("whole"), "--to", "mlx", "--drop", "vision", "-q"});
  run_well({"graft", path("mlx"), path("out"), "--mtp", kTiny, "--replace", "--link", "-q"});
  EXPECT_TRUE(fs::equivalent(path("out") + "/model.safetensors", path("mlx") + "/model.safetensors"));
  expect_equal(path("out"), path("whole"));
  EXPECT_EQ(faults_of(path("out")), "");
}

/// The text class: flat configuration, names without "language_model".
TEST_F(GraftParts, ATextOnlySaveThatGetsATowerBecomesOfTheMultimodalClass) {
  run_well({"convert", kTiny, path("text.gguf"), "--drop", "vision", "-q"});
  run_well({"convert", path("text.gguf"), path("text"), "--to", "safetensors", "-q"});
  ASSERT_EQ(json_of(path("text") + "/config.json")["architectures"][0], "Qwen3_5ForCausalLM");
  run_well({"graft", path("text"), path("out"), "--vision", kTiny, "--verify", "-q"});
  const Json config = json_of(path("out") + "/config.json");
  const Json original = json_of(kTiny + "/config.json");
  EXPECT_EQ(config["architectures"], original["architectures"]);
  EXPECT_EQ(config["model_type"], original["model_type"]);
  EXPECT_EQ(config["vision_config"], original["vision_config"]);
  EXPECT_EQ(config["text_config"]["model_type"], original["text_config"]["model_type"]);
  EXPECT_EQ(config["text_config"]["hidden_size"], original["text_config"]["hidden_size"]);
  expect_equal(path("out"), kTiny);
  EXPECT_EQ(faults_of(path("out")), "");
}

TEST_F(GraftParts, AQuantizedTextOnlySaveKeepsItsCodes) {
  const std::string whole = path("whole");
  run_well({"convert", sample_path("qwen35-gptq-int4"), whole, "--to", "gptq", "--drop", "mtp", "-q"});
  // As tools save the text class: a flat configuration, other names, no tower.
  const fs::path text = path("text");
  fs::copy(whole, text);
  SafetensorsPatch model(text / "model.safetensors");
  model.erase([](const std::string& name) { return name.starts_with("model.visual."); });
  for (auto& array : model.arrays) {
    const std::string prefix = "model.language_model.";
    if (array.name.starts_with(prefix)) array.name.replace(0, prefix.size(), "model.");
  }
  model.save(text / "model.safetensors");
  patch_json(text / "config.json", [](Json& config) {
    Json flat = config["text_config"];
    flat["architectures"] = {"Qwen3_5ForCausalLM"};
    flat["model_type"] = "qwen3_5_text";
    flat["quantization_config"] = config["quantization_config"];
    flat["quantization_config"].erase("dynamic");  // which spoke of the tower
    config = flat;
  });
  patch_json(text / "quantize_config.json", [](Json& section) { section.erase("dynamic"); });
  run_well({"graft", text, path("out"), "--vision", whole, "--require", "values", "-q"});
  expect_equal(path("out"), whole);
  SafetensorsPatch before(fs::path(whole) / "model.safetensors");
  SafetensorsPatch after(fs::path(path("out")) / "model.safetensors");
  ASSERT_EQ(after.arrays.size(), before.arrays.size());
  for (const auto& array : before.arrays) EXPECT_TRUE(after.array(array.name).bytes == array.bytes) << array.name;
  EXPECT_EQ(json_of(path("out") + "/config.json")["quantization_config"]["bits"], 4);
  EXPECT_EQ(faults_of(path("out")), "");
}

TEST_F(GraftParts, AModelThatSaysThatItHasNoTowerSaysSoNoMore) {
  run_well({"convert", kTiny, path("text"), "--to", "safetensors", "--drop", "vision", "-q"});
  ASSERT_EQ(json_of(path("text") + "/config.json")["language_model_only"], true);
  EXPECT_EQ(faults_of(path("text")), "");
  run_well({"graft", path("text"), path("out"), "--vision", kTiny, "-q"});
  EXPECT_EQ(json_of(path("out") + "/config.json")["language_model_only"], false);
  expect_equal(path("out"), kTiny);
  EXPECT_EQ(faults_of(path("out")), "");
}

TEST_F(GraftParts, AContainerGivesAndTakes) {
  run_well({"convert", kTiny, path("whole.rg.gguf"), "-q"});
  run_well({"convert", kTiny, path("bare"), "--to", "safetensors", "--drop", "mtp", "-q"});
  run_well({"graft", path("bare"), path("out"), "--mtp", path("whole.rg.gguf"), "-q"});
  expect_equal(path("out"), kTiny);
  run_well({"convert", path("bare"), path("bare.rg.gguf"), "-q"});
  run_well({"graft", path("bare.rg.gguf"), path("other"), "--mtp", kTiny, "--link", "-q"});
  expect_equal(path("other"), kTiny);
  EXPECT_EQ(faults_of(path("other")), "");
  EXPECT_EQ(testing::read_text(path("other") + "/model-00001-of-00002.safetensors"),
            testing::read_text(path("bare") + "/model.safetensors"));
}

TEST_F(GraftParts, ASplitGgufIsABaseToo) {
  run_well({"convert", kTiny, path("model.gguf"), "--drop", "vision,mtp", "--split-max-size", "200000", "-q"});
  std::string first;
  for (const auto& entry : fs::directory_iterator(scratch_.path())) {
    if (entry.path().filename().string().starts_with("model-00001-of-")) first = entry.path();
  }
  ASSERT_FALSE(first.empty());
  run_well({"graft", first, path("out.gguf"), "--mtp", kTiny, "-q"});
  run_well({"convert", kTiny, path("whole.gguf"), "--drop", "vision", "-q"});
  expect_equal(path("out.gguf"), path("whole.gguf"));
  EXPECT_EQ(faults_of(path("out.gguf")), "");
}

TEST_F(GraftParts, ARecipeSaysWhatThePartBecomesAndTheBaseStaysWhatItIs) {
  run_well({"convert", kTiny, path("bare.gguf"), "--drop", "mtp,vision", "-q"});
  run_well({"graft", path("bare.gguf"), path("out.gguf"), "--mtp", kTiny, "--tensor-type", "@mtp=Q8_0", "-q"});
  const auto table = regauge({"inspect", path("out.gguf"), "--tensors"});
  EXPECT_NE(table.out.find("Q8_0"), std::string::npos);
  const auto before = regauge({"checksum", path("bare.gguf")});
  const auto after = regauge({"checksum", path("out.gguf")});
  std::size_t lines = 0;
  for (std::size_t at = 0; at < before.out.size();) {
    const std::size_t end = before.out.find('\n', at);
    const std::string line = before.out.substr(at, end - at);
    const std::size_t name = line.find("blk.0.");
    if (name != std::string::npos) {
      EXPECT_NE(after.out.find(line.substr(0, line.find(' '))), std::string::npos) << line;
      ++lines;
    }
    at = end + 1;
  }
  EXPECT_GT(lines, 5U);
  EXPECT_EQ(faults_of(path("out.gguf")), "");
}

TEST_F(GraftParts, ADryRunWritesNothing) {
  run_well({"convert", kTiny, path("bare"), "--to", "safetensors", "--drop", "mtp", "-q"});
  const auto run = regauge({"graft", path("bare"), path("out"), "--mtp", kTiny, "--dry-run", "--json"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Json::parse(run.out)["schema"], "regauge.graft/1");
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_EQ(std::distance(fs::directory_iterator(scratch_.path()), {}), 1);
}

struct Misfit {
  const char* name;
  std::function<void(const fs::path&)> spoil;
};

class GraftMisfits : public GraftParts, public ::testing::WithParamInterface<Misfit> {};

/// Donors whose configuration or weights are of another model than the base.
TEST_P(GraftMisfits, AreRefusedBeforeAnythingIsWritten) {
  run_well({"convert", kTiny, path("bare"), "--to", "safetensors", "--drop", "mtp", "-q"});
  const fs::path donor = path("donor");
  fs::copy(kTiny, donor);
  GetParam().spoil(donor);
  const auto run = regauge({"graft", path("bare"), path("out"), "--mtp", donor});
  EXPECT_EQ(run.exit_code, 2) << run.out;
  EXPECT_NE(run.err.find("donor"), std::string::npos) << run.err;
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_FALSE(fs::exists(path("out") + ".partial"));
}

void set_text(const fs::path& donor, const char* key, const Json& value) {
  patch_json(donor / "config.json", [&](Json& config) { config["text_config"][key] = value; });
}

void erase_array(const fs::path& donor, const std::string& name) {
  for (const char* shard : {kFirst, kSecond}) {
    SafetensorsPatch patch(donor / shard);
    patch.erase([&](const std::string& one) { return one == name; });
    patch.save(donor / shard);
  }
  patch_json(donor / "model.safetensors.index.json", [&](Json& index) { index["weight_map"].erase(name); });
}

INSTANTIATE_TEST_SUITE_P(
    Donors, GraftMisfits,
    ::testing::Values(Misfit{"OfAnotherVocabulary", [](const fs::path& donor) { set_text(donor, "vocab_size", 321); }},
                      Misfit{"OfAnotherWidth", [](const fs::path& donor) { set_text(donor, "hidden_size", 128); }},
                      Misfit{"OfAnotherNumberOfLayers",
                             [](const fs::path& donor) {
                               set_text(donor, "num_hidden_layers", 3);
                               patch_json(donor / "config.json", [](Json& config) {
                                 if (config["text_config"].contains("layer_types"))
                                   config["text_config"]["layer_types"].erase(3);
                               });
                             }},
                      Misfit{"OfAnotherArchitecture",
                             [](const fs::path& donor) {
                               patch_json(donor / "config.json", [](Json& config) {
                                 config["architectures"] = {"LlamaForCausalLM"};
                                 config["model_type"] = "llama";
                                 config["text_config"]["model_type"] = "llama";
                               });
                             }},
                      Misfit{"OfAnotherMlp", [](const fs::path& donor) { set_text(donor, "intermediate_size", 128); }},
                      Misfit{"OfWhichAWeightIsMissing",
                             [](const fs::path& donor) { erase_array(donor, "mtp.norm.weight"); }}),
    [](const auto& one) { return std::string(one.param.name); });

/// Two models of the tiny sample's layers with embeddings of 100 MB, so that there is time to stop.
class StoppedGraft : public GraftParts {
 protected:
  void make() {
    static constexpr std::int64_t kVocabulary = 800'000;
    const fs::path whole = path("whole");
    fs::copy(kTiny, whole);
    patch_json(whole / "config.json", [](Json& config) { config["text_config"]["vocab_size"] = kVocabulary; });
    for (const char* shard : {kFirst, kSecond}) {
      SafetensorsPatch patch(whole / shard);
      for (auto& array : patch.arrays) {
        if (array.name != "lm_head.weight" && array.name.find("embed_tokens") == std::string::npos) continue;
        array.shape[0] = kVocabulary;
        array.bytes.resize(static_cast<std::size_t>(kVocabulary * array.shape[1] * 2));
      }
      patch.save(whole / shard);
    }
    patch_json(whole / "model.safetensors.index.json", [](Json& index) { index["metadata"].erase("total_size"); });
    run_well({"convert", whole, path("bare"), "--to", "safetensors", "--drop", "mtp", "-q"});
  }
  std::vector<std::string> command() const {
    return {REGAUGE_CLI, "graft", path("bare"), path("out"), "--mtp", path("whole"), "-q"};
  }
};

TEST_F(StoppedGraft, LeavesNoTargetWhenItIsKilledAndIsDoneByTheNextRun) {
  make();
  {
    testing::RunningCommand running(command());
    for (int i = 0; i < 20'000 && !fs::exists(path("out") + ".partial"); ++i)
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    running.send(SIGKILL);
    EXPECT_EQ(running.wait().exit_code, 128 + SIGKILL);
  }
  EXPECT_FALSE(fs::exists(path("out")));
  auto again = command();
  again.emplace_back("--force");
  EXPECT_EQ(run_command(again).exit_code, 0);
  EXPECT_FALSE(fs::exists(path("out") + ".partial"));
  expect_equal(path("out"), path("whole"));
}

TEST_F(StoppedGraft, LeavesNothingWhenTheDiskIsFull) {
  make();
  testing::CommandLimits limits;
  limits.file_bytes = 10'000'000;
  const auto run = run_command(command(), limits);
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.err.find("File too large"), std::string::npos) << run.err;
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_FALSE(fs::exists(path("out") + ".partial"));
}

}  // namespace
}  // namespace regauge
