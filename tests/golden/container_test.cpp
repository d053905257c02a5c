#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/digest.h"
#include "formats/container/container.h"
#include "formats/container/package.h"
#include "formats/container/restore.h"
#include "formats/gguf/gguf.h"
#include "ir/decode/tensor.h"
#include "tests/support/golden.h"
#include "tests/support/pack.h"
#include "tests/support/rewrite.h"

// Checkpoints that other people's software wrote, into a container and out of it again.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;

struct Original {
  const char* path;
  bool in_samples = false;
};

std::ostream& operator<<(std::ostream& out, const Original& original) { return out << original.path; }

std::string sha256_of_file(const fs::path& path) { return hex(Sha256::of(testing::read_whole_file(path))); }

/// Of every file below a directory, or of the one file.
std::map<std::string, std::string> sha256_of_all(const fs::path& path) {
  std::map<std::string, std::string> digests;
  if (!fs::is_directory(path)) return {{"", sha256_of_file(path)}};
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) digests[fs::relative(entry.path(), path).native()] = sha256_of_file(entry.path());
  }
  return digests;
}

std::vector<float> decode_whole(const Tensor& tensor) {
  TensorDecoder decoder(tensor, {.with_low_rank = true});
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  decoder.decode({0, tensor.shape.rows()}, values);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_same_arrays(const Checkpoint& expected, const Checkpoint& actual) {
  ASSERT_EQ(actual.files.size(), expected.files.size());
  for (std::size_t i = 0; i < expected.files.size(); ++i) {
    EXPECT_EQ(actual.files[i].name, expected.files[i].name);
    EXPECT_EQ(actual.files[i].data_offset, expected.files[i].data_offset);
    EXPECT_EQ(actual.files[i].file->size(), expected.files[i].file->size());
  }
  ASSERT_EQ(actual.arrays.size(), expected.arrays.size());
  for (std::size_t i = 0; i < expected.arrays.size(); ++i) {
    const StoredArray& a = expected.arrays[i];
    const StoredArray& b = actual.arrays[i];
    EXPECT_TRUE(a.name == b.name && a.element == b.element && a.shape == b.shape && a.file == b.file &&
                a.offset == b.offset && a.bytes == b.bytes)
        << a.name;
  }
}

void expect_same_tensors(const Checkpoint& expected, const Checkpoint& actual) {
  ASSERT_EQ(actual.tensors.size(), expected.tensors.size());
  for (std::size_t i = 0; i < expected.tensors.size(); ++i) {
    const Tensor& a = expected.tensors[i];
    const Tensor& b = actual.tensors[i];
    EXPECT_TRUE(a.name == b.name && a.shape == b.shape && a.encoding == b.encoding && a.arrays == b.arrays) << a.name;
    ASSERT_EQ(a.parts.size(), b.parts.size()) << a.name;
    if (is_decodable(a.encoding)) {
      EXPECT_TRUE(same_bits(decode_whole(a), decode_whole(b))) << a.name;
    } else {
      EXPECT_EQ(testing::read_part(a.parts.at(0)), testing::read_part(b.parts.at(0))) << a.name;
    }
  }
}

void expect_same_surroundings(const Checkpoint& expected, const Checkpoint& actual) {
  EXPECT_EQ(actual.metadata.entries(), expected.metadata.entries());
  EXPECT_EQ(actual.config, expected.config);
  EXPECT_EQ(actual.quantization, expected.quantization);
  EXPECT_EQ(actual.dialect, expected.dialect);
  EXPECT_EQ(actual.findings, expected.findings);
  ASSERT_EQ(actual.sidecars.size(), expected.sidecars.size());
  for (std::size_t i = 0; i < expected.sidecars.size(); ++i) {
    const std::string& name = expected.sidecars[i].name;
    EXPECT_EQ(actual.sidecars[i].name, name);
    EXPECT_EQ(actual.sidecars[i].bytes, expected.sidecars[i].bytes);
    constexpr std::uint64_t kMaxBytes = 64 << 20;
    EXPECT_EQ(actual.sidecar_text(name, kMaxBytes), expected.sidecar_text(name, kMaxBytes)) << name;
  }
}

class ContainerGolden : public ::testing::TestWithParam<Original> {
 protected:
  static std::optional<fs::path> original() {
    if (GetParam().in_samples) return testing::sample_path(GetParam().path);
    return testing::find_golden(GetParam().path);
  }
};

TEST_P(ContainerGolden, HoldsTheCheckpointAndGivesItsFilesBack) {
  const auto path = original();
  if (!path) GTEST_SKIP() << "golden data " << GetParam() << " not here: set REGAUGE_GOLDEN";
  const Checkpoint expected = open_checkpoint(*path);
  const auto files = sha256_of_all(*path);
  const ScratchDir scratch;
  Digest128 root;
  for (const bool zstd : {false, true}) {
    const fs::path packed = scratch / (zstd ? "zstd.rg.gguf" : "raw.rg.gguf");
    // Small chunks, so that small checkpoints have many.
    testing::pack(expected, packed, {.zstd = zstd, .chunk_bytes = 1 << 14});
    const Checkpoint actual = open_checkpoint(packed);
    EXPECT_EQ(actual.format, "container");
    EXPECT_EQ(actual.packed_format, expected.format);
    expect_same_arrays(expected, actual);
    expect_same_tensors(expected, actual);
    expect_same_surroundings(expected, actual);
    EXPECT_TRUE(container::check(packed).empty());
    const auto restored = container::restore(packed, scratch / (zstd ? "from_zstd" : "from_raw"));
    EXPECT_EQ(restored.is_directory, fs::is_directory(*path));
    EXPECT_EQ(sha256_of_all(scratch / (zstd ? "from_zstd" : "from_raw")), files);
    // What is inside does not depend on how it is stored.
    const auto package = container::Package::open(std::make_shared<const File>(File::open(packed)));
    if (!zstd) root = package->root();
    EXPECT_EQ(package->root(), root);
    // The plain reader takes it for what it also is.
    const Checkpoint plain = open_gguf(probe(packed));
    EXPECT_EQ(plain.arrays.size(), expected.files.size() + expected.arrays.size() + expected.sidecars.size());
    EXPECT_TRUE(std::ranges::none_of(plain.findings, [](const Finding& f) { return f.severity != Severity::note; }));
  }
}

constexpr Original kOriginals[] = {{"qwen35_family/gptq-int4-g128-noact"},
                                   {"qwen35_family/gptq-int4-g64"},
                                   {"qwen35_family/gptq-mixed-eora"},
                                   {"qwen35_family/hf-bf16"},
                                   {"qwen35_family/mlx-4bit"},
                                   {"qwen35_family/mlx-8865"},
                                   {"qwen35_family/gptq-mixed-eora.adapter.gguf"},
                                   {"qwen35_family/hf-bf16-q4_0.gguf"},
                                   {"qwen35_family/hf-bf16.gguf"},
                                   {"qwen35_family/hf-bf16.mmproj.gguf"},
                                   {"qwen35_tiny/hf"},
                                   {"qwen35_tiny/tiny.gguf"},
                                   {"qwen35_tiny/tiny-mtp.gguf"},
                                   {"qwen35_tiny_moe/hf"},
                                   {"qwen35_tiny_moe/tiny.gguf"},
                                   {"gptq/ckpt/mini003"},
                                   {"gptq/ckpt/mini004"},
                                   {"gguf/tiny-qwen35-q4_0.gguf"},
                                   {"gguf/tiny-qwen35-q4_k_m.gguf"},
                                   {"gguf/tiny-qwen35-q8_0.gguf"},
                                   {"qwen35-bf16-tiny", true},
                                   {"qwen35-gptq-int4", true},
                                   {"qwen35-tiny-mtp.gguf", true}};

INSTANTIATE_TEST_SUITE_P(Checkpoints, ContainerGolden, ::testing::ValuesIn(kOriginals), [](const auto& param) {
  std::string name = param.param.path;
  std::ranges::replace_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace regauge
