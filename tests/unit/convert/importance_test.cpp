#include "convert/importance.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/golden.h"
#include "tests/support/imatrix_bytes.h"
#include "tests/support/oracle.h"
#include "tests/support/oracle_imatrix.h"

namespace regauge {
namespace {

using testing::GgufBytes;
using testing::imatrix_gguf;
using testing::imatrix_legacy_entry;
using testing::ImatrixEntry;
using testing::ScratchDir;
using testing::small_gguf;
using Floats = std::vector<float>;

Importance read(const GgufBytes& bytes) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "imatrix", bytes.bytes());
  return Importance::read(scratch / "imatrix");
}

Floats of(const Importance& importance, const std::string& name) {
  const auto weights = importance.of(name);
  return {weights.begin(), weights.end()};
}

/// The error that reading such a file ends with; an internal one when there is none.
Error refusal_of(const GgufBytes& bytes) {
  try {
    read(bytes);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorCode::internal, "no error");
}

ErrorCode code_of(const GgufBytes& bytes) { return refusal_of(bytes).code(); }

TEST(Importance, IsTheMeanOfTheSquares) {
  const Importance importance = read(imatrix_gguf({{"blk.0.attn_q.weight", {{2, 4, 6, 1}, {2}}}}, {"wiki.txt"}, 7));
  EXPECT_EQ(of(importance, "blk.0.attn_q.weight"), (Floats{1, 2, 3, 0.5F}));
  EXPECT_TRUE(importance.of("blk.1.attn_q.weight").empty());
  EXPECT_EQ(importance.names(), std::vector<std::string>{"blk.0.attn_q.weight"});
  EXPECT_EQ(importance.count(), 1U);
  EXPECT_EQ(importance.chunks(), 7U);
  EXPECT_EQ(importance.datasets(), std::vector<std::string>{"wiki.txt"});
}

// Each expert has its own count, rounded to a whole number, halves away from zero; one that was never chosen has no
// preference. Source: ggml-org/llama.cpp common/imatrix-loader.cpp, tools/quantize/quantize.cpp.
TEST(Importance, ExpertsAreDividedByTheirOwnCounts) {
  const ImatrixEntry experts{{2, 4, 9, 12, 5, 6, 7, 8, 3, 3}, {2, 2.5F, 0, 0.25F, -4}};
  const Importance importance = read(imatrix_gguf({{"e", experts}}, {}, 1));
  EXPECT_EQ(of(importance, "e"), (Floats{1, 2, 3, 4, 1, 1, 1, 1, 1, 1}));
}

TEST(Importance, TheOlderFormDividesByItsCalls) {
  GgufBytes file;
  file.i32(3);
  imatrix_legacy_entry(file, "a", 4, {4, 8});
  imatrix_legacy_entry(file, "never", 0, {5, 6, 7});
  imatrix_legacy_entry(file, "", 1, {9});
  file.i32(11).i32(8).raw("data.txt");
  const Importance importance = read(file);
  EXPECT_EQ(of(importance, "a"), (Floats{1, 2}));
  EXPECT_EQ(of(importance, "never"), (Floats{5, 6, 7}));
  EXPECT_EQ(importance.count(), 3U);
  EXPECT_EQ(importance.chunks(), 11U);
  EXPECT_EQ(importance.datasets(), std::vector<std::string>{"data.txt"});
}

/// What tools/quantize makes of what the loader gives it.
Floats divided(const testing::OracleImatrix::Entry& entry, bool is_legacy) {
  Floats out = entry.sums;
  const std::size_t columns = out.size() / entry.counts.size();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto count = static_cast<float>(entry.counts[i / columns]);
    if (count > 0) {
      out[i] /= count;
    } else if (!is_legacy) {
      out[i] = 1.0F;
    }
  }
  return out;
}

TEST(Importance, IsWhatLlamaCppsOwnLoaderReads) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  static_cast<void>(oracle);
  GgufBytes legacy;
  legacy.i32(2);
  imatrix_legacy_entry(legacy, "blk.0.ffn_up.weight", 3, {1, 2, 4});
  imatrix_legacy_entry(legacy, "never", 0, {5, 6});
  legacy.i32(11).i32(4).raw("data");
  const ImatrixEntry experts{{2, 4, 9, 12, 5, 6, 7, 8, 3, 3, 1, 2}, {2, 2.5F, 0, 0.25F, -4, 3.5F}};
  const ScratchDir scratch;
  for (const GgufBytes& bytes : {legacy, imatrix_gguf({{"a", {{1, 2, 4}, {3}}}, {"e", experts}}, {"x", "y"}, 7)}) {
    testing::write_whole_file(scratch / "imatrix", bytes.bytes());
    const auto expected = testing::oracle_read_imatrix(scratch / "imatrix");
    ASSERT_TRUE(expected);
    EXPECT_NE(expected->is_legacy, expected->has_metadata);
    const Importance importance = Importance::read(scratch / "imatrix");
    EXPECT_EQ(importance.count(), expected->entries.size());
    EXPECT_EQ(importance.datasets(), expected->datasets);
    EXPECT_EQ(static_cast<std::int64_t>(importance.chunks()), expected->chunks);
    for (const auto& entry : expected->entries) {
      EXPECT_EQ(of(importance, entry.first), divided(entry.second, expected->is_legacy)) << entry.first;
    }
  }
}

TEST(Importance, TheOlderFormMayEndAfterItsEntries) {
  GgufBytes file;
  file.i32(1);
  imatrix_legacy_entry(file, "a", 1, {4});
  const Importance bare = read(file);
  EXPECT_EQ(bare.chunks(), 0U);
  EXPECT_TRUE(bare.datasets().empty());
  EXPECT_EQ(read(file.i32(5)).chunks(), 5U);
}

TEST(Importance, IsGivenOnlyToTensorsOfItsSize) {
  const Importance importance =
      read(imatrix_gguf({{"a", {{1, 2, 3, 4}, {1, 1}}}, {"token_embd.weight", {{1, 2}, {1}}}}, {}, 1));
  EXPECT_EQ(importance.of("a", 2, 2).size(), 4U);
  EXPECT_TRUE(importance.of("b", 2, 2).empty());
  EXPECT_TRUE(importance.of("token_embd.weight", 64, 1).empty());
  EXPECT_EQ(importance.of("token_embd.weight", 2, 1).size(), 2U);
  EXPECT_THROW(importance.of("a", 4, 2), Error);
  EXPECT_THROW(importance.of("a", std::numeric_limits<std::int64_t>::max(), 4), Error);
}

TEST(Importance, NeedsTheKeysOfAnImportanceMatrix) {
  EXPECT_EQ(code_of(small_gguf()), ErrorCode::malformed);
  EXPECT_EQ(code_of(imatrix_gguf({}, {}, 1)), ErrorCode::malformed);
  GgufBytes bare;  // sums and counts, but neither datasets nor chunks
  bare.preamble(2, 0).tensor("a.in_sum2", {2, 1}, 0, 0).tensor("a.counts", {1, 1}, 0, 32).pad();
  bare.f32(1).f32(2).pad().f32(1).pad();
  EXPECT_EQ(code_of(bare), ErrorCode::malformed);
}

GgufBytes two_tensors(const std::string& first, const std::string& second, std::uint64_t matrices) {
  GgufBytes file;
  file.preamble(2, 3).key("imatrix.datasets", 9).array(8, 0);
  file.key("imatrix.chunk_count", 4).u32(1).key("imatrix.chunk_size", 4).u32(1);
  file.tensor(first, {3, 1}, 0, 0).tensor(second, {1, matrices}, 0, 32).pad();
  file.f32(1).f32(2).f32(3).pad();
  for (std::uint64_t i = 0; i < matrices; ++i) file.f32(1);
  return std::move(file.pad());
}

TEST(Importance, SumsAndCountsComeInPairs) {
  EXPECT_EQ(of(read(two_tensors("a.in_sum2", "a.counts", 1)), "a"), (Floats{1, 2, 3}));
  EXPECT_EQ(of(read(two_tensors("a.in_sum2", "a.counts", 3)), "a"), (Floats{1, 2, 3}));
  EXPECT_EQ(refusal_of(two_tensors("a.in_sum2", "b.counts", 1)).tensor_name(), "b");
  EXPECT_EQ(refusal_of(two_tensors("a.in_sum2", "x", 1)).tensor_name(), "a");
  EXPECT_EQ(refusal_of(two_tensors("a.in_sum2", "a.counts", 2)).tensor_name(), "a");  // 3 sums of 2 matrices
  EXPECT_EQ(refusal_of(two_tensors("a.in_sum2", "a.counts", 0)).tensor_name(), "a");
}

// llama_model_quantize refuses an imatrix with such numbers as a whole.
TEST(Importance, NumbersAreFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(code_of(imatrix_gguf({{"a", {{1, bad}, {1}}}}, {}, 1)), ErrorCode::malformed);
    EXPECT_EQ(code_of(imatrix_gguf({{"a", {{1, 1}, {bad}}}}, {}, 1)), ErrorCode::malformed);
    GgufBytes legacy;
    legacy.i32(1);
    EXPECT_EQ(code_of(imatrix_legacy_entry(legacy, "a", 1, {bad})), ErrorCode::malformed);
  }
}

TEST(Importance, SaysWhichFileIsMeant) {
  const Error error = refusal_of(small_gguf());
  EXPECT_TRUE(error.file().ends_with("imatrix")) << error.what();
  EXPECT_THROW(Importance::read("/nowhere/imatrix.gguf"), Error);
}

}  // namespace
}  // namespace regauge
