#include "verify/diff.h"

#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"
#include "verify/render_diff.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::dense_tensor;
using testing::ScratchDir;

std::vector<float> counting(std::size_t count, float first = 1) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return values;
}

/// Two models of unknown architecture, weights alone.
Diff diff_of(std::vector<Tensor> a, std::vector<Tensor> b, const DiffOptions& options = {}) {
  Checkpoint first;
  first.tensors = std::move(a);
  Checkpoint second;
  second.tensors = std::move(b);
  return diff(std::vector{OpenedPath{&first, nullptr}}, std::vector{OpenedPath{&second, nullptr}}, options);
}

struct Opened {
  Checkpoint checkpoint;
  std::unique_ptr<const Architecture> architecture;

  explicit Opened(const fs::path& path) : checkpoint(open_checkpoint(path)), architecture(recognise(checkpoint)) {}
  std::vector<OpenedPath> paths() const { return {{&checkpoint, architecture.get()}}; }
};

TEST(Diff, NamesWhatOnlyOneHasAndWhatHasAnotherShape) {
  const Diff result = diff_of({dense_tensor("w", Shape{2, 3}, counting(6)), dense_tensor("a", Shape{2}, counting(2))},
                              {dense_tensor("w", Shape{3, 2}, counting(6)), dense_tensor("b", Shape{3}, counting(3))});
  ASSERT_EQ(result.only_first.size(), 1U);
  EXPECT_EQ(result.only_first.front().name, "a");
  ASSERT_EQ(result.only_second.size(), 1U);
  EXPECT_EQ(result.only_second.front().name, "b");
  ASSERT_EQ(result.reshaped.size(), 1U);
  EXPECT_EQ(result.reshaped.front().first, (Shape{2, 3}));
  EXPECT_FALSE(result.equal());
}

TEST(Diff, FindsTheSameValuesUnderAnotherName) {
  const Diff result =
      diff_of({dense_tensor("old", Shape{2, 3}, counting(6)), dense_tensor("x", Shape{3}, counting(3))},
              {dense_tensor("new", Shape{2, 3}, counting(6)), dense_tensor("y", Shape{3}, counting(3, 5))});
  using Names = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(result.renamed, (Names{{"old", "new"}}));
  EXPECT_EQ(result.only_first.size(), 1U);
  EXPECT_EQ(result.only_second.size(), 1U);
}

TEST(Diff, OfAnotherTypeWithTheSameValuesIsEqualInValues) {
  const Diff result = diff_of({dense_tensor("w", Shape{2, 3}, counting(6))},
                              {dense_tensor("w", Shape{2, 3}, counting(6), DType::bf16)});
  EXPECT_TRUE(result.equal());
  EXPECT_EQ(result.sense(), Likeness::values);
  EXPECT_FALSE(result.tensors.front().same_encoding);
}

TEST(Diff, LooksOnlyAtWhatItIsAskedFor) {
  const DiffOptions only{.only = "layers.1.*", .keys = true, .threads = 0};
  const Diff result =
      diff_of({dense_tensor("layers.1.w", Shape{2}, counting(2)), dense_tensor("x", Shape{2}, counting(2))},
              {dense_tensor("layers.1.w", Shape{2}, counting(2)), dense_tensor("y", Shape{3}, counting(3))}, only);
  EXPECT_TRUE(result.equal());
  EXPECT_EQ(result.tensors.size(), 1U);
}

TEST(Diff, OfACheckpointWithItselfIsEqualInBytes) {
  const Opened sample(testing::sample_path("qwen35-gptq-int4"));
  const Diff result = diff(sample.paths(), sample.paths());
  EXPECT_EQ(result.sense(), Likeness::bytes);
  EXPECT_TRUE(result.dialect.empty());
  EXPECT_TRUE(result.keys.empty());
}

// The same model by another program in another format: everything that differs is dialect, but the vision tower is missing.
TEST(Diff, SeesThroughTheConventionsOfAnotherDialect) {
  const Opened hf(testing::sample_path("qwen35-bf16-tiny"));
  const Opened gguf(testing::sample_path("qwen35-tiny-mtp.gguf"));
  const Diff result = diff(hf.paths(), gguf.paths(), {.only = "", .keys = false, .threads = 2});
  std::set<std::string> notes;
  for (const DialectNote& note : result.dialect) notes.insert(note.what);
  EXPECT_EQ(notes, (std::set<std::string>{"A_log is stored as -exp(A_log) in B",
                                          "axes of length 1 are kept or left out, or in another place",
                                          "names are Hugging Face's in A and GGUF's in B",
                                          "norms are stored as 1 + w in B", "value heads are in another order"}));
  for (const TensorDiff& one : result.tensors) EXPECT_NE(one.likeness, Likeness::different) << one.name;
  for (const Alone& one : result.only_first) EXPECT_EQ(one.component, Component::vision) << one.name;
  EXPECT_EQ(result.only_first.size(), 34U);
  EXPECT_TRUE(result.only_second.empty());
}

/// Copies a sample directory, one of its files changed.
class Changed {
 public:
  explicit Changed(const fs::path& sample) : path_(scratch_ / "model") {
    fs::copy(sample, path_, fs::copy_options::recursive);
  }
  const fs::path& path() const { return path_; }
  void write(const std::string& name, const testing::Bytes& bytes) const {
    testing::write_whole_file(path_ / name, bytes);
  }

 private:
  ScratchDir scratch_;
  fs::path path_;
};

TEST(Diff, NamesTheKeyThatDiffers) {
  const fs::path sample = testing::sample_path("qwen35-bf16-tiny");
  const Changed changed(sample);
  const auto bytes = testing::read_whole_file(sample / "config.json");
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string key = "\"rms_norm_eps\": ";
  const std::size_t at = text.find(key);
  ASSERT_NE(at, std::string::npos);
  text.insert(at + key.size(), "3");
  const auto edited = std::as_bytes(std::span(text));
  changed.write("config.json", {edited.begin(), edited.end()});
  const Diff result = diff(Opened(sample).paths(), Opened(changed.path()).paths());
  ASSERT_EQ(result.keys.size(), 1U);
  EXPECT_EQ(result.keys.front().where, "config.json");
  EXPECT_EQ(result.keys.front().key, "text_config.rms_norm_eps");
  EXPECT_FALSE(result.equal());
}

/// The stored arrays of a shard, by file offset.
const StoredArray* array_at(const Checkpoint& checkpoint, const std::string& file, std::uint64_t offset) {
  for (const StoredArray& array : checkpoint.arrays) {
    if (checkpoint.files[array.file].name == file && offset >= array.offset && offset < array.offset + array.bytes)
      return &array;
  }
  return nullptr;
}

/// Whether a diff puts its finger on what has changed: on a tensor made of the array, or somewhere when it is in none.
bool found(const Diff& result, const Checkpoint& original, const StoredArray* array) {
  if (array == nullptr) return !result.equal() || !result.keys.empty();
  const std::size_t index = static_cast<std::size_t>(array - original.arrays.data());
  std::set<std::string> named;
  for (const TensorDiff& one : result.tensors) {
    if (one.likeness == Likeness::different || one.bytes_differ) named.insert(one.name);
  }
  for (const Tensor& tensor : original.tensors) {
    if (std::ranges::find(tensor.arrays, index) == tensor.arrays.end()) continue;
    const bool all_named =
        std::ranges::all_of(named, [&](const std::string& name) { return name.starts_with(tensor.name); });
    return !named.empty() && all_named;
  }
  return false;
}

class Flips : public ::testing::TestWithParam<std::string> {};

// Header, gaps and data alike.
TEST_P(Flips, AnywhereInAShardAreFoundAndNamed) {
  const fs::path sample = testing::sample_path(GetParam());
  const Opened original(sample);
  const std::string shard = original.checkpoint.files.back().name;
  testing::Bytes bytes = testing::read_whole_file(sample / shard);
  const Changed changed(sample);
  std::mt19937_64 random(20260802);
  int refused = 0;
  for (int i = 0; i < 150; ++i) {
    // One in five hits the header, which is a small part of the file.
    const std::uint64_t range = i % 5 == 0 ? original.checkpoint.files.back().data_offset : bytes.size();
    const std::size_t at = random() % range;
    const auto bit = std::byte{static_cast<unsigned char>(1U << (random() % 8))};
    bytes[at] ^= bit;
    changed.write(shard, bytes);
    bytes[at] ^= bit;
    try {
      const Opened other(changed.path());
      const Diff result = diff(original.paths(), other.paths());
      EXPECT_TRUE(found(result, original.checkpoint, array_at(original.checkpoint, shard, at))) << "byte " << at;
    } catch (const Error&) {
      ++refused;  // the header no longer makes sense, which is an answer too
    }
  }
  EXPECT_LE(refused, 40);
}

INSTANTIATE_TEST_SUITE_P(Samples, Flips, ::testing::Values("qwen35-bf16-tiny", "qwen35-gptq-int4"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(Diff, IsADocumentOfItsSchema) {
  const Diff result =
      diff_of({dense_tensor("w", Shape{2, 3}, counting(6))}, {dense_tensor("w", Shape{2, 3}, counting(6, 2))});
  const Json json = diff_to_json(result, "a", "b");
  EXPECT_EQ(json["schema"], "regauge.diff/1");
  EXPECT_EQ(json["equal"], false);
  ASSERT_EQ(json["tensors"].size(), 1U);
  EXPECT_EQ(json["tensors"][0]["different"], 6);
  EXPECT_EQ(json["tensors"][0]["max_error"], 1.0);
  EXPECT_EQ(json["tensors"][0]["likeness"], "different");
}

}  // namespace
}  // namespace regauge
