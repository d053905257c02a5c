// GGUF files that llama.cpp refuses, aborts on or misreads.
#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using testing::GgufPatch;

class DoctorGguf : public testing::DoctorWard {
 protected:
  /// A healthy model with a tokenizer, changed.
  Path broken(const std::function<void(GgufPatch&)>& change) {
    const Path path = converted("qwen35-gptq-int4", "model.gguf", {"--drop", "vision"});
    GgufPatch file(path);
    change(file);
    file.save(path);
    return path;
  }
  Path original() const { return testing::sample_path("qwen35-gptq-int4"); }
  static std::vector<std::string>& tokens(GgufPatch& file) {
    for (auto& [key, value] : file.keys) {
      if (key == "tokenizer.ggml.tokens") return std::get<std::vector<std::string>>(std::get<MetaArray>(value).values);
    }
    throw std::runtime_error("no tokens");
  }
};

TEST_F(DoctorGguf, ANormThatIsNotF32IsStoredAsF32) {
  const Path path = broken([](GgufPatch& file) {
    auto& norm = file.tensor("blk.0.attn_norm.weight");
    norm.bytes = testing::to_bf16(testing::from_f32(norm.bytes));
    norm.type = 30;  // BF16
  });
  expect_mended(path, "gguf-not-f32");
}

TEST_F(DoctorGguf, KeysOfAnotherTypeAreStoredInTheRightOne) {
  const Path path = broken([](GgufPatch& file) {
    const auto layers = std::ranges::find(file.keys, "qwen35.block_count", &Metadata::Entry::first);
    ASSERT_NE(layers, file.keys.end());
    layers->second = static_cast<std::uint64_t>(std::get<std::uint32_t>(layers->second));
    const auto theta = std::ranges::find(file.keys, "qwen35.rope.freq_base", &Metadata::Entry::first);
    ASSERT_NE(theta, file.keys.end());
    theta->second = static_cast<double>(std::get<float>(theta->second));
  });
  expect_mended(path, "gguf-key-type");
}

TEST_F(DoctorGguf, AKeyWithoutWhichLogitsAreWrongIsMissed) {
  const Path path = broken([](GgufPatch& file) { file.erase_key("qwen35.rope.freq_base"); });
  expect_mended(path, "gguf-key-missing", 0, original());
}

class DoctorGgufKeys : public DoctorGguf, public ::testing::WithParamInterface<const char*> {};

TEST_P(DoctorGgufKeys, AreMissed) {
  const Path path = broken([](GgufPatch& file) { file.erase_key(GetParam()); });
  expect_mended(path, "gguf-key-missing", 0, original());
}

INSTANTIATE_TEST_SUITE_P(ThatLoadersAskFor, DoctorGgufKeys,
                         ::testing::Values("qwen35.rope.dimension_count", "qwen35.rope.dimension_sections",
                                           "qwen35.attention.layer_norm_rms_epsilon"));

TEST_F(DoctorGguf, ThreeRotarySectionsAreOneTooFew) {
  const Path path = broken([](GgufPatch& file) {
    file.set("qwen35.rope.dimension_sections", MetaArray{MetaType::i32, std::vector<std::int32_t>{2, 1, 1}});
  });
  expect_mended(path, "gguf-key-missing", 0, original());
}

TEST_F(DoctorGguf, ANumberOfHeadsForSomeBlocksOnlyIsFound) {
  const Path path = broken([](GgufPatch& file) {
    file.set("qwen35.attention.head_count", MetaArray{MetaType::u32, std::vector<std::uint32_t>{4, 4}});
  });
  expect_mended(path, "gguf-key-type", 0, original());
}

TEST_F(DoctorGguf, AMatrixOfDoublesIsStoredAsSingles) {
  const Path path = broken([](GgufPatch& file) {
    auto& beta = file.tensor("blk.0.ssm_beta.weight");
    const std::vector<float> values =
        beta.type == 0 ? testing::from_f32(beta.bytes) : testing::from_bf16(beta.bytes);  // F32 or BF16
    testing::Bytes wide(values.size() * sizeof(double));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto value = static_cast<double>(values[i]);
      std::memcpy(&wide[i * sizeof value], &value, sizeof value);
    }
    beta.bytes = wide;
    beta.type = 28;  // F64
  });
  expect_mended(path, "gguf-type-unusable");
}

TEST_F(DoctorGguf, TheFirstVersionOfTheFormatIsWrittenAsTheThird) {
  const Path path = copied("qwen35-tiny-mtp.gguf");
  GgufPatch file(path);
  file.version = 1;
  file.save(path);
  expect_mended(path, "gguf-version");
}

TEST_F(DoctorGguf, TheOtherByteOrderIsTurned) {
  const Path path = converted("qwen35-bf16-tiny", "model.gguf", {"--drop", "vision"});
  GgufPatch file(path);
  file.is_big_endian = true;
  file.save(path);
  expect_mended(path, "gguf-version");
}

TEST_F(DoctorGguf, NormsShiftedTwiceAreFoundHereToo) {
  const Path path = broken([](GgufPatch& file) {
    for (auto& tensor : file.tensors) {
      if (!tensor.name.ends_with("_norm.weight") || tensor.name.find("ssm_norm") != std::string::npos) continue;
      std::vector<float> values = testing::from_f32(tensor.bytes);
      for (float& value : values) value += 1;
      tensor.bytes = testing::to_f32(values);
    }
  });
  expect_mended(path, "norms-shifted-twice", 0, original());
}

TEST_F(DoctorGguf, AFileWithoutAnyTokenizerIsFound) {
  const Path path = broken([](GgufPatch& file) {
    std::erase_if(file.keys, [](const Metadata::Entry& entry) { return entry.first.starts_with("tokenizer."); });
    file.set("qwen35.vocab_size", static_cast<std::uint32_t>(file.tensor("token_embd.weight").shape.at(0)));
  });
  expect_mended(path, "tokenizer-missing", 0, original());
}

TEST_F(DoctorGguf, AFileThatSaysThatItHasNoVocabularyIsHealthyWhenItTellsItsSize) {
  const Path path = broken([](GgufPatch& file) {
    std::erase_if(file.keys, [](const Metadata::Entry& entry) { return entry.first.starts_with("tokenizer."); });
    file.set("tokenizer.ggml.model", std::string("none"));
    file.set("qwen35.vocab_size", static_cast<std::uint32_t>(file.tensor("token_embd.weight").shape.at(0)));
  });
  EXPECT_EQ(faults(path), std::vector<std::string>{});
}

TEST_F(DoctorGguf, AListOfTokensShorterThanTheEmbeddingIsFound) {
  const Path path = broken([](GgufPatch& file) {
    tokens(file).pop_back();
    for (auto& [key, value] : file.keys) {
      if (key == "tokenizer.ggml.token_type")
        std::get<std::vector<std::int32_t>>(std::get<MetaArray>(value).values).pop_back();
    }
  });
  expect_mended(path, "tensor-wrong-shape", 0, original());
}

TEST_F(DoctorGguf, AnExtraTensorIsLeftOut) {
  const Path path = broken([](GgufPatch& file) {
    auto extra = file.tensor("blk.0.attn_norm.weight");
    extra.name = "rope_freqs.weight";
    file.tensors.push_back(extra);
  });
  expect_mended(path, "tensor-extra");
}

TEST_F(DoctorGguf, AMissingTensorIsNamed) {
  const Path path = broken(
      [](GgufPatch& file) { file.erase([](const std::string& name) { return name == "blk.1.ffn_up.weight"; }); });
  expect_mended(path, "tensor-missing", 0, original());
}

TEST_F(DoctorGguf, AnotherAlignmentBecomes32) {
  const Path path = broken([](GgufPatch& file) {
    file.alignment = 128;
    file.set("general.alignment", std::uint32_t{128});
  });
  expect_mended(path, "alignment-not-32");
}

TEST_F(DoctorGguf, TwoTokensOfOneTextAreFound) {
  const Path path = broken([](GgufPatch& file) { tokens(file).back() = tokens(file).front(); });
  expect_mended(path, "token-twice", 0, original());
}

TEST_F(DoctorGguf, AVocabularyWithoutMergesIsFound) {
  const Path path = broken([](GgufPatch& file) { file.erase_key("tokenizer.ggml.merges"); });
  expect_mended(path, "tokenizer-missing", 0, original());
}

TEST_F(DoctorGguf, TokenTypesThatAreFewerThanTokensAreNamed) {
  const Path path = broken([](GgufPatch& file) {
    for (auto& [key, value] : file.keys) {
      if (key == "tokenizer.ggml.token_type")
        std::get<std::vector<std::int32_t>>(std::get<MetaArray>(value).values).pop_back();
    }
  });
  expect_mended(path, "tokenizer-arrays-unequal", 0, original());
}

TEST_F(DoctorGguf, AnOldPreTokenizerIsFound) {
  const Path path = broken([](GgufPatch& file) { file.set("tokenizer.ggml.pre", std::string("qwen2")); });
  expect_mended(path, "pre-tokenizer-old", 0, original());
}

TEST_F(DoctorGguf, AnEosTakenFromConfigAloneIsFound) {
  const Path path = broken([](GgufPatch& file) {
    const auto& texts = tokens(file);
    const auto end = std::ranges::find(texts, "<|endoftext|>") - texts.begin();
    file.set("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(end));
  });
  expect_mended(path, "eos-from-config", 0, original());
}

TEST_F(DoctorGguf, ANanIsFound) {
  const Path path = broken([](GgufPatch& file) {
    auto& bytes = file.tensor("output_norm.weight").bytes;
    bytes[2] = std::byte{0xC0};
    bytes[3] = std::byte{0x7F};
  });
  expect_hopeless(path, "not-finite");
}

class DoctorTokenizer : public testing::DoctorWard {};

TEST_F(DoctorTokenizer, TheOldRegexInTokenizerJsonIsReplacedByTheOriginalsTokenizer) {
  const Path model = gptq();
  const Path file = model / "tokenizer.json";
  std::string text = testing::read_text(file);
  for (const std::string& piece : {std::string("\\\\p{M}"), std::string("\\p{M}")}) {
    for (auto at = text.find(piece); at != std::string::npos; at = text.find(piece)) text.erase(at, piece.size());
  }
  // [\p{L}] and \p{L} are one class; the published old regex has no brackets there.
  for (auto at = text.find("[\\\\p{L}]+"); at != std::string::npos; at = text.find("[\\\\p{L}]+"))
    text.replace(at, 9, "\\\\p{L}+");
  testing::write_text(file, text);
  expect_mended(model, "pre-tokenizer-old", 0, testing::sample_path("qwen35-gptq-int4"));
}

TEST_F(DoctorTokenizer, AnEosThatIsTheEndOfTextAloneIsReplacedByTheOriginals) {
  const Path model = gptq();
  testing::patch_json(model / "tokenizer_config.json", [](auto& config) { config["eos_token"] = "<|endoftext|>"; });
  testing::patch_json(model / "generation_config.json",
                      [](auto& config) { config["eos_token_id"] = config["eos_token_id"][1]; });
  expect_mended(model, "eos-from-config", 0, testing::sample_path("qwen35-gptq-int4"));
}

}  // namespace
}  // namespace regauge
