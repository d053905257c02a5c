#include "verify/value_digest.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/format.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

// Vectors: tests/golden/value_digests.py --vectors, which computes them with python3-xxhash. The recorded digests of whole
// samples are that script's too.

namespace regauge {
namespace {

using testing::dense_tensor;

std::vector<float> counting(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

/// A model of unknown architecture.
struct Model {
  Checkpoint checkpoint;

  explicit Model(std::vector<Tensor> tensors) { checkpoint.tensors = std::move(tensors); }
  OpenedPath path() const { return {&checkpoint, nullptr}; }
  ValueDigests digests(int threads = 2) const { return value_digests(std::vector{path()}, threads); }
};

TEST(ValueDigestOfARow, TakesZerosOfEitherSignAndNansOfAnyPayloadAsOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> row{0.0F, -0.0F, 1.5F, -nan};
  EXPECT_EQ(hex(digest_row(row)), "afe7ebcacb77daa7824e40a8fd623e4d");
  EXPECT_EQ(hex(digest_row({})), "99aa06d3014798d86001c324468d497f");
}

TEST(ValueDigestOfARow, FindsThemWhereverTheyAre) {
  std::vector<float> zeros = counting(21);
  for (std::size_t at = 0; at < zeros.size(); ++at) {
    std::vector<float> plain = zeros;
    std::vector<float> negative = zeros;
    plain[at] = 0.0F;
    negative[at] = -0.0F;
    EXPECT_EQ(digest_row(plain), digest_row(negative)) << at;
    std::vector<float> quiet = zeros;
    std::vector<float> other = zeros;
    quiet[at] = std::bit_cast<float>(0x7FC00000U);
    other[at] = std::bit_cast<float>(0xFF800001U);
    EXPECT_EQ(digest_row(quiet), digest_row(other)) << at;
  }
}

TEST(ValueDigest, EqualsVectorsComputedElsewhere) {
  const Tensor a = dense_tensor("a", Shape{2, 3}, std::vector{1.0F, 2.0F, 3.0F, -1.0F, -2.0F, -3.0F});
  const ValueDigests digests = Model({a}).digests();
  EXPECT_EQ(hex(digests.tensors.at("a")), "f28fddfc0e67044720394ea02d33bff8");
  EXPECT_EQ(hex(digests.roots.at("text")), "d4e03bc16d807bdba34f349a39dc9544");
  EXPECT_EQ(digests.roots.size(), 1U);
}

TEST(ValueDigest, DependsNeitherOnTheTypeThatHoldsTheValuesNorOnThreads) {
  // Long enough for several bands.
  const std::vector<float> values = [] {
    std::vector<float> all(std::size_t{5000} * 512);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(i % 251);
    return all;
  }();
  const Model wide({dense_tensor("w", Shape{5000, 512}, values)});
  const Model narrow({dense_tensor("w", Shape{5000, 512}, values, DType::bf16)});
  const ValueDigests one = wide.digests(1);
  EXPECT_EQ(one.model, wide.digests(3).model);
  EXPECT_EQ(one.model, narrow.digests(2).model);
}

// So many rows that their digests are not kept until the last one is in. From leaf_digest() of the script.
TEST(ValueDigest, OfALongNarrowTensorIsDefinedLikeAnyOther) {
  std::vector<float> values((std::size_t{1} << 20) + 5);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7);
  const auto rows = static_cast<std::int64_t>(values.size());
  EXPECT_EQ(hex(Model({dense_tensor("w", Shape{rows, 1}, values)}).digests().tensors.at("w")),
            "f8b6d2e00ddaa85181303584a96aad6f");
}

TEST(ValueDigest, ChangesWithNameShapeAndAnyValue) {
  const auto digest = [](const Tensor& tensor) { return Model({tensor}).digests().model; };
  std::vector<float> values = counting(12);
  const Digest128 first = digest(dense_tensor("w", Shape{3, 4}, values));
  EXPECT_NE(first, digest(dense_tensor("v", Shape{3, 4}, values)));
  EXPECT_NE(first, digest(dense_tensor("w", Shape{4, 3}, values)));
  EXPECT_NE(first, digest(dense_tensor("w", Shape{3, 1, 4}, values)));
  values[7] += 0.5F;
  EXPECT_NE(first, digest(dense_tensor("w", Shape{3, 4}, values)));
}

TEST(ValueDigest, OfTensorsWithoutElementsIsThatOfNameAndShape) {
  const Model empty({dense_tensor("w", Shape{0, 4}, {})});
  const Model other({dense_tensor("w", Shape{4, 0}, {})});
  EXPECT_NE(empty.digests().model, other.digests().model);
}

TEST(ValueDigest, OfATensorInTwoPathsIsRefused) {
  const Model a({dense_tensor("w", Shape{3}, counting(3))});
  try {
    value_digests(std::vector{a.path(), a.path()});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.tensor_name(), "w");
  }
}

TEST(ValueDigest, OfLowRankFactorsIsTheAdaptersAlone) {
  const Tensor plain = dense_tensor("x.weight", Shape{2, 3}, counting(6));
  Tensor corrected = plain;
  const Tensor a = dense_tensor("a", Shape{1, 3}, counting(3));
  const Tensor b = dense_tensor("b", Shape{2, 1}, counting(2));
  corrected.parts.push_back({PartId::lowrank_a, DType::f32, a.shape, a.part(PartId::values).rows});
  corrected.parts.push_back({PartId::lowrank_b, DType::f32, b.shape, b.part(PartId::values).rows});
  Tensor own_a = a;
  own_a.name = "x.weight.lora_a";
  Tensor own_b = b;
  own_b.name = "x.weight.lora_b";

  const ValueDigests bare = Model({plain}).digests();
  const ValueDigests beside = Model({corrected}).digests();
  EXPECT_FALSE(bare.roots.contains("adapter"));
  EXPECT_EQ(bare.roots.at("text"), beside.roots.at("text"));
  EXPECT_TRUE(beside.tensors.contains("x.weight.lora_a"));
  // A file of its own holds the same two leaves.
  EXPECT_EQ(beside.roots, Model({plain, own_a, own_b}).digests().roots);

  const Model stored({corrected});
  const auto named = tensor_value_digests(stored.path());
  ASSERT_EQ(named.size(), 1U);
  EXPECT_EQ(named.front(), std::pair(std::string("x.weight"), bare.tensors.at("x.weight")));
}

TEST(ValueDigest, StopsWhenAskedTo) {
  const Model model({dense_tensor("w", Shape{3}, counting(3))});
  const std::atomic<bool> cancel = true;
  EXPECT_THROW(value_digests(std::vector{model.path()}, 1, {}, &cancel), Error);
}

class RecordedDigests : public ::testing::TestWithParam<std::string> {};

// Every leaf and root of a checkpoint, by a program that shares no code with this one.
TEST_P(RecordedDigests, AreThoseOfAnIndependentProgram) {
  REGAUGE_GOLDEN_OR_SKIP(recorded, "value_digests/" + GetParam() + ".txt");
  const Checkpoint checkpoint = open_checkpoint(testing::sample_path(GetParam()));
  const auto architecture = recognise(checkpoint);
  const ValueDigests digests = value_digests(std::vector{OpenedPath{&checkpoint, architecture.get()}});
  std::ifstream lines(recorded);
  std::size_t tensors = 0;
  std::size_t roots = 0;
  for (std::string digest, name; lines >> digest >> name;) {
    if (name == "model") {
      EXPECT_EQ(hex(digests.model), digest);
    } else if (name.starts_with("root:")) {
      ASSERT_TRUE(digests.roots.contains(name.substr(5))) << name;
      EXPECT_EQ(hex(digests.roots.at(name.substr(5))), digest) << name;
      ++roots;
    } else {
      ASSERT_TRUE(digests.tensors.contains(name)) << name;
      EXPECT_EQ(hex(digests.tensors.at(name)), digest) << name;
      ++tensors;
    }
  }
  EXPECT_EQ(tensors, digests.tensors.size());
  EXPECT_EQ(roots, digests.roots.size());
  EXPECT_GT(tensors, 80U);
}

INSTANTIATE_TEST_SUITE_P(Samples, RecordedDigests, ::testing::Values("qwen35-bf16-tiny", "qwen35-gptq-int4"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace regauge
