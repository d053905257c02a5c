#include <limits>

#include <gtest/gtest.h>

#include "formats/gguf/gguf.h"
#include "tests/corrupt/gguf_cases.h"
#include "tests/support/corrupt_case.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::CorruptCase;
using testing::GgufBytes;
using testing::ScratchDir;
using testing::Verdict;

class GgufCorrupt : public ::testing::TestWithParam<CorruptCase> {};

TEST_P(GgufCorrupt, GetsWhatItDeserves) {
  const ScratchDir scratch;
  testing::check_case(kGgufFormat, GetParam(), scratch / "file.gguf");
}

INSTANTIATE_TEST_SUITE_P(Header, GgufCorrupt, ::testing::ValuesIn(testing::gguf_header_cases()),
                         [](const auto& param) { return param.param.name; });
INSTANTIATE_TEST_SUITE_P(Keys, GgufCorrupt, ::testing::ValuesIn(testing::gguf_key_cases()),
                         [](const auto& param) { return param.param.name; });
INSTANTIATE_TEST_SUITE_P(Tensors, GgufCorrupt, ::testing::ValuesIn(testing::gguf_tensor_cases()),
                         [](const auto& param) { return param.param.name; });

/// The part of ggml's interface that reads a header (ggml-org/ggml include/gguf.h).
struct InitParams {
  bool no_alloc;
  void** context;
};

// What we take and refuse is what ggml takes and refuses, except where a case says otherwise.
TEST(GgufCorpus, AgreesWithGgmlItself) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  auto* open = oracle.symbol<void*(const char*, InitParams)>("gguf_init_from_file");
  auto* close = oracle.symbol<void(void*)>("gguf_free");
  auto* set_log = oracle.symbol<void(void (*)(int, const char*, void*), void*)>("ggml_log_set");
  ASSERT_TRUE(open != nullptr && close != nullptr && set_log != nullptr);
  set_log([](int, const char*, void*) {}, nullptr);
  const ScratchDir scratch;
  std::size_t compared = 0;
  for (const auto& cases : {testing::gguf_header_cases(), testing::gguf_key_cases(), testing::gguf_tensor_cases()}) {
    for (const CorruptCase& corrupt : cases) {
      testing::write_whole_file(scratch / "file.gguf", corrupt.bytes);
      void* context = open((scratch / "file.gguf").c_str(), {.no_alloc = true, .context = nullptr});
      EXPECT_EQ(context == nullptr, corrupt.is_refused_by_owner) << corrupt.name;
      if (context != nullptr) close(context);
      ++compared;
    }
  }
  set_log(nullptr, nullptr);
  EXPECT_GT(compared, 80U);
}

TEST(GgufTruncated, AtEveryByteIsRefusedUntilTheLastTensorIsWhole) {
  const ScratchDir scratch;
  for (const bool is_big_endian : {false, true}) {
    const Bytes whole = testing::small_gguf(3, is_big_endian).bytes();
    constexpr std::size_t kFinalPadding = 28;
    testing::write_whole_file(scratch / "file.gguf", whole);
    for (std::size_t length = whole.size(); length-- > 0;) {
      std::filesystem::resize_file(scratch / "file.gguf", length);
      if (length < whole.size() - kFinalPadding) {
        EXPECT_THROW(open_gguf(probe(scratch / "file.gguf")), Error) << length;
      } else {
        const Checkpoint checkpoint = open_gguf(probe(scratch / "file.gguf"));
        EXPECT_TRUE(testing::has_finding(checkpoint, "final-padding-missing")) << length;
        testing::read_everything(checkpoint);
      }
    }
  }
}

TEST(GgufTruncated, VocabularyAtEveryByteIsRefused) {
  const ScratchDir scratch;
  GgufBytes file;
  file.preamble(0, 3).text_key("general.architecture", "x").key("tokenizer.ggml.tokens", 9).array(8, 2).string("a");
  file.string("").key("tokenizer.ggml.scores", 9).array(6, 2).f32(0).f32(1);
  testing::write_whole_file(scratch / "file.gguf", file.bytes());
  EXPECT_NO_THROW(open_gguf(probe(scratch / "file.gguf")));
  for (std::size_t length = file.size(); length-- > 0;) {
    std::filesystem::resize_file(scratch / "file.gguf", length);
    EXPECT_THROW(open_gguf(probe(scratch / "file.gguf")), Error) << length;
  }
}

// No byte of a header may lead to anything but a clear answer.
TEST(GgufMutated, AnyByteSetToAnythingNastyOpensOrIsRefused) {
  const ScratchDir scratch;
  for (const std::uint32_t version : {1U, 3U}) {
    const Bytes whole = testing::small_gguf(version).bytes();
    testing::write_whole_file(scratch / "file.gguf", whole);
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (const std::uint8_t value : {0x00, 0x01, 0x7F, 0x80, 0xFF}) {
        testing::set_byte(scratch / "file.gguf", at, static_cast<std::byte>(value));
        try {
          testing::read_everything(open_gguf(probe(scratch / "file.gguf")));
        } catch (const Error& error) {
          EXPECT_NE(error.code(), ErrorCode::internal) << error.what();
        }
      }
      testing::set_byte(scratch / "file.gguf", at, whole[at]);
    }
  }
}

// Five megabytes of the shortest legal entries: memory stays in proportion.
TEST(GgufMemory, ManySmallTensorsTakeMemoryInProportion) {
  constexpr std::uint64_t kTensors = 150'000;
  GgufBytes file;
  file.preamble(kTensors, 1).text_key("general.architecture", "x");
  for (std::uint64_t i = 0; i < kTensors; ++i) file.tensor(std::to_string(i), {0}, 0, 0);
  file.pad();
  const ScratchDir scratch;
  testing::check_case(kGgufFormat, CorruptCase::with_finding("many", file.bytes(), "empty-tensor"),
                      scratch / "file.gguf");
}

}  // namespace
}  // namespace regauge
