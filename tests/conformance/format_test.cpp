#include <algorithm>
#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "convert/copy_whole.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "ir/decode/blocks.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

// What every format that writes has to do, whatever it is: take each encoding or say why not, give the values back when it
// is opened again, and never take a file that was cut short for a whole one.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::memory_part;
using testing::ScratchDir;

constexpr std::int64_t kRows = 64;
constexpr std::int64_t kColumns = 512;

Tensor named(Encoding encoding) {
  Tensor tensor;
  tensor.name = "model.layers.0.mlp.up_proj.weight";
  tensor.shape = {kRows, kColumns};
  tensor.encoding = std::move(encoding);
  return tensor;
}

std::vector<std::byte> noise(std::mt19937& random, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

Part raw_part(PartId id, DType dtype, std::int64_t rows, std::vector<std::byte> bytes) {
  const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(rows);
  return {id, dtype, Shape{rows, static_cast<std::int64_t>(row_bytes)},
          std::make_shared<MemoryRows>(std::move(bytes), rows, row_bytes)};
}

Tensor dense_sample(DType dtype, std::mt19937& random) {
  Tensor tensor = named(Dense{dtype});
  const auto bytes = static_cast<std::size_t>(*storage_bytes(dtype, static_cast<std::uint64_t>(kRows * kColumns)));
  auto data = noise(random, bytes);
  if (dtype == DType::boolean) {
    for (std::byte& byte : data) byte &= std::byte{1};
  }
  tensor.parts.push_back(raw_part(PartId::values, dtype, kRows, std::move(data)));
  tensor.parts.back().shape = tensor.shape;
  return tensor;
}

Tensor block_sample(BlockType type, std::mt19937& random) {
  Tensor tensor = named(Blocked{type});
  const std::int64_t row_bytes = kColumns / block_elements(type) * block_bytes(type);
  tensor.parts.push_back(
      raw_part(PartId::blocks, DType::u8, kRows, noise(random, static_cast<std::size_t>(kRows * row_bytes))));
  return tensor;
}

Tensor grouped_sample(int bits, std::int64_t group, Offset offset, std::mt19937& random) {
  const bool biased = offset == Offset::bias;
  Tensor tensor = named(Grouped{.bits = bits,
                                .group = {1, group},
                                .scale = DType::f16,
                                .offset = offset,
                                .offset_dtype = biased ? DType::f16 : DType::u8,
                                .flavour = biased ? Flavour::mlx : Flavour::ocp});
  const std::int64_t groups = kColumns / group;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(kRows * kColumns));
  for (auto& code : codes) code = static_cast<std::uint8_t>(random() % (1U << bits));
  std::vector<std::uint16_t> scales(static_cast<std::size_t>(kRows * groups));
  for (auto& scale : scales) scale = static_cast<std::uint16_t>(0x1400 + random() % 0x1000);
  tensor.parts.push_back(memory_part<std::uint8_t>(PartId::codes, DType::u8, kRows, kColumns, codes));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::scales, DType::f16, kRows, groups, scales));
  if (offset == Offset::zero_point) {
    std::vector<std::uint8_t> zeros(scales.size());
    for (auto& zero : zeros) zero = static_cast<std::uint8_t>(random() % (1U << bits));
    tensor.parts.push_back(memory_part<std::uint8_t>(PartId::zeros, DType::u8, kRows, groups, zeros));
  } else if (biased) {
    std::vector<std::uint16_t> biases(scales.size());
    for (auto& bias : biases) bias = static_cast<std::uint16_t>(0x9400 + random() % 0x1000);
    tensor.parts.push_back(memory_part<std::uint16_t>(PartId::biases, DType::f16, kRows, groups, biases));
  }
  return tensor;
}

/// One tensor of every encoding, and every group width and offset of the grouped ones.
std::vector<Tensor> samples() {
  std::mt19937 random(1);
  std::vector<Tensor> all;
  for (const DType dtype : all_dtypes()) all.push_back(dense_sample(dtype, random));
  for (const GgmlType& type : ggml_types()) {
    if (type.block) all.push_back(block_sample(*type.block, random));
  }
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::int64_t group : {32, 64, 128, 512}) {
      for (const Offset offset : {Offset::midpoint, Offset::zero_point, Offset::bias})
        all.push_back(grouped_sample(bits, group, offset, random));
    }
  }
  return all;
}

Dialect dialect_of(const Format& format) {
  if (format.name == "gguf") return Dialect::gguf;
  return format.packing == Packing::mlx ? Dialect::mlx : Dialect::hf;
}

Checkpoint checkpoint_of(Tensor tensor, const Format& format) {
  Checkpoint source;
  source.path = "memory";
  source.format = "memory";
  source.dialect = dialect_of(format);
  source.config = Json{{"model_type", "unknown"}};
  if (source.dialect == Dialect::gguf) source.metadata.set("general.architecture", std::string("unknown"));
  source.tensors.push_back(std::move(tensor));
  return source;
}

fs::path target_in(const ScratchDir& scratch, const Format& format) {
  return scratch / (format.name == "gguf"          ? "model.gguf"
                    : format.name == "safetensors" ? "model.safetensors"
                                                   : "model");
}

/// Writes the sample, or says why not.
std::optional<std::string> write(const Checkpoint& source, const Format& format, const fs::path& target) {
  ConvertOptions options;
  options.format = format.name;
  try {
    const Plan plan = plan_conversion(source, nullptr, target, options);
    execute(plan, source, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::refused) << error.message();
    EXPECT_FALSE(fs::exists(target));
    return std::string(error.message());
  }
  return std::nullopt;
}

std::vector<std::string> writable_formats() {
  std::vector<std::string> names;
  for (const Format* format : all_formats()) {
    if (format->create != nullptr) names.emplace_back(format->name);
  }
  return names;
}

class EveryFormat : public ::testing::TestWithParam<std::string> {
 protected:
  const Format& format() const { return *find_format(GetParam()); }
};

TEST_P(EveryFormat, GivesBackWhatItTakesAndSaysWhyItTakesNothingElse) {
  std::size_t taken = 0;
  std::size_t refused = 0;
  for (Tensor& sample : samples()) {
    const std::string what = to_string(sample.encoding);
    SCOPED_TRACE(what);
    const ScratchDir scratch;
    const Checkpoint source = checkpoint_of(std::move(sample), format());
    if (const auto reason = write(source, format(), target_in(scratch, format()))) {
      EXPECT_GT(reason->size(), 20U);
      ++refused;
      continue;
    }
    ++taken;
    const Checkpoint again = open_checkpoint(target_in(scratch, format()));
    ASSERT_EQ(again.tensors.size(), 1U);
    const Tensor& wanted = source.tensors.front();
    const Tensor& found = again.tensors.front();
    EXPECT_EQ(found.name, wanted.name);
    EXPECT_EQ(found.shape, wanted.shape);
    if (!is_decodable(wanted.encoding) ||
        (std::holds_alternative<Blocked>(wanted.encoding) && !can_decode(std::get<Blocked>(wanted.encoding).type)))
      continue;
    const auto a = testing::decode_all(wanted);
    const auto b = testing::decode_all(found);
    std::size_t different = a.size() == b.size() ? 0 : 1;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
      different += a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]) ? 0 : 1;
    EXPECT_EQ(different, 0U) << "came back as " << to_string(found.encoding);
  }
  EXPECT_GT(taken, 5U);
  EXPECT_GT(refused, 5U);
}

TEST_P(EveryFormat, NeverTakesAFileThatWasCutShortForAWholeOne) {
  std::mt19937 random(2);
  const ScratchDir scratch;
  const Checkpoint source = checkpoint_of(dense_sample(DType::bf16, random), format());
  const fs::path target = target_in(scratch, format());
  ASSERT_EQ(write(source, format(), target), std::nullopt);
  const Checkpoint whole = open_checkpoint(target);
  const fs::path file = whole.files.front().file->path();
  const std::uint64_t header = whole.files.front().data_offset;
  const auto bytes = testing::read_whole_file(file);
  for (std::uint64_t length = 0; length < bytes.size(); length += length < header + 16 ? 1 : 4099) {
    testing::write_whole_file(file, std::span(bytes).first(static_cast<std::size_t>(length)));
    EXPECT_THROW(open_checkpoint(target), Error) << length << " of " << bytes.size() << " bytes";
  }
}

// A second write of what was written is the same, byte for byte.
TEST_P(EveryFormat, WritesTheSameAgain) {
  std::mt19937 random(3);
  for (Tensor sample : {dense_sample(DType::f32, random), grouped_sample(4, 128, Offset::midpoint, random),
                        block_sample(BlockType::q6_K, random)}) {
    const ScratchDir scratch;
    const Checkpoint source = checkpoint_of(std::move(sample), format());
    const fs::path first = target_in(scratch, format());
    if (write(source, format(), first)) continue;
    fs::create_directory(scratch / "second");
    const fs::path second = scratch / "second" / first.filename();
    ConvertOptions options;
    options.format = format().name;
    const Checkpoint again = open_checkpoint(first);
    execute(plan_conversion(again, nullptr, second, options), again, options);
    const auto files =
        fs::is_directory(first) ? std::vector<fs::path>{"model.safetensors", "config.json"} : std::vector<fs::path>{""};
    for (const fs::path& file : files) {
      const auto at = [&](const fs::path& path) { return file.empty() ? path : path / file; };
      EXPECT_TRUE(testing::read_whole_file(at(first)) == testing::read_whole_file(at(second))) << file;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Writable, EveryFormat, ::testing::ValuesIn(writable_formats()),
                         [](const auto& test) { return test.param; });

// What no other format takes: any checkpoint, as it is.
TEST(EveryWholeFormat, TakesAnyCheckpointAndGivesItsArraysBack) {
  for (const Format* format : all_formats()) {
    if (format->take_whole == nullptr) continue;
    for (const char* name : {"qwen35-gptq-int4", "qwen35-bf16-tiny", "qwen35-tiny-mtp.gguf"}) {
      for (const int level : {0, 3}) {
        const ScratchDir scratch;
        const Checkpoint source = open_checkpoint(testing::sample_path(name));
        const auto writer = format->take_whole(source, scratch / "whole.rg.gguf", {.compression_level = level});
        copy_whole(*writer, 2);
        writer->commit();
        EXPECT_NO_THROW(check_copy(source, open_checkpoint(scratch / "whole.rg.gguf"))) << format->name << ' ' << name;
      }
    }
  }
}

}  // namespace
}  // namespace regauge
