#include <map>
#include <string>

#include "base/bytes.h"
#include "base/half.h"
#include "formats/layouts/ggml_blocks.h"
#include "formats/layouts/mlx_stream.h"
#include "tests/support/golden.h"
#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

using regauge::testing::count_bit_differences;
using regauge::testing::GoldenFile;
using Scales = std::vector<std::uint16_t>;

struct Pieces {
  Codes codes;
  Scales d;
  Scales m;
};

// Takes blocks apart, and checks that the pieces make the same blocks again.
Pieces unpack(BlockType type, std::span<const std::byte> blocks) {
  const std::size_t count = blocks.size() / static_cast<std::size_t>(block_bytes(type));
  Pieces pieces{unwritten_codes(count * static_cast<std::size_t>(block_elements(type))), Scales(count, 0xA5A5),
                Scales(block_has_minimum(type) ? count : 0, 0xA5A5)};
  unpack_blocks_row(type, blocks, pieces.codes, pieces.d, pieces.m);
  Bytes packed = unwritten(blocks.size());
  pack_blocks_row(type, pieces.codes, pieces.d, pieces.m, packed);
  EXPECT_EQ(packed, Bytes(blocks.begin(), blocks.end()));
  return pieces;
}

// Source of the arithmetic: ggml-org/ggml src/ggml-quants.c, dequantize_row_ of each type.
std::vector<float> values_of(BlockType type, std::span<const std::byte> blocks) {
  const Pieces pieces = unpack(type, blocks);
  const std::map<BlockType, int> middle = {{BlockType::q4_0, 8}, {BlockType::q5_0, 16}, {BlockType::q2_0, 1}};
  std::vector<float> values(pieces.codes.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t block = i / static_cast<std::size_t>(block_elements(type));
    const float d = f16_to_f32(pieces.d[block]);
    if (block_has_minimum(type)) {
      values[i] = static_cast<float>(pieces.codes[i]) * d + f16_to_f32(pieces.m[block]);
    } else if (type == BlockType::q8_0) {
      values[i] = static_cast<float>(static_cast<std::int8_t>(pieces.codes[i])) * d;
    } else {
      values[i] = static_cast<float>(pieces.codes[i] - middle.at(type)) * d;
    }
  }
  return values;
}

// mxfp4 and nvfp4: doubled e2m1 values times halved scales; ggml has no negative zero among them.
std::vector<float> fp4_values_of(BlockType type, std::span<const std::byte> blocks) {
  const auto run = static_cast<std::size_t>(fp4_scale_run(type));
  Codes codes = unwritten_codes(blocks.size() / static_cast<std::size_t>(block_bytes(type)) *
                                static_cast<std::size_t>(block_elements(type)));
  Codes scales = unwritten_codes(codes.size() / run);
  unpack_fp4_blocks_row(type, blocks, codes, scales);
  Bytes packed = unwritten(blocks.size());
  pack_fp4_blocks_row(type, codes, scales, packed);
  EXPECT_EQ(packed, Bytes(blocks.begin(), blocks.end()));
  std::vector<float> values(codes.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint8_t scale = scales[i / run];
    const float d =
        type == BlockType::mxfp4 ? f8_e8m0_half_to_f32(scale) : f8_e4m3_to_f32(scale, F8Flavour::ggml) * 0.5F;
    const float doubled = codes[i] == 8 ? 0.0F : 2.0F * f4_e2m1_to_f32(codes[i]);
    values[i] = doubled * d;
  }
  return values;
}

class GgmlGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GgmlGolden, PiecesHaveTheValuesOfGgmlAndMakeTheSameBlocks) {
  REGAUGE_GOLDEN_OR_SKIP(path, "ggml/" + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const auto type = find_ggml_type(GetParam())->block.value();
  const auto decode = [&](const std::string& tensor) {
    const bool fp4 = type == BlockType::mxfp4 || type == BlockType::nvfp4;
    return fp4 ? fp4_values_of(type, file[tensor].bytes) : values_of(type, file[tensor].bytes);
  };
  EXPECT_EQ(count_bit_differences(file["dequantized"].as<float>(), decode("quantized")), 0U);
  EXPECT_EQ(count_bit_differences(file["random_dequantized"].as<float>(), decode("random_bytes")), 0U);
  if (file.contains("quantized_imatrix")) decode("quantized_imatrix");  // no golden values, but the bytes come back
}

INSTANTIATE_TEST_SUITE_P(Types, GgmlGolden,
                         ::testing::Values("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_0", "mxfp4", "nvfp4"),
                         [](const auto& type) { return type.param; });

// The tensor data of a little GGUF v3 file, read by hand: name, ggml type and offset of each tensor.
struct GgufTensor {
  std::uint32_t type = 0;
  std::span<const std::byte> data;
};

std::map<std::string, GgufTensor> tensors_of_gguf(std::span<const std::byte> file) {
  ByteReader in(file);
  EXPECT_EQ(in.read<std::uint32_t>("magic"), 0x46554747U);
  EXPECT_EQ(in.read<std::uint32_t>("version"), 3U);
  const auto tensors = in.read<std::uint64_t>("tensor count");
  const auto keys = in.read<std::uint64_t>("key count");
  const auto text = [&] { return std::string(text_of(in.take(in.read<std::uint64_t>("length"), "text"))); };
  for (std::uint64_t i = 0; i < keys; ++i) {
    const std::string key = text();
    switch (in.read<std::uint32_t>("value type")) {
      case 4: (void)in.read<std::uint32_t>("u32"); break;
      case 8: (void)text(); break;
      case 9:
        EXPECT_EQ(in.read<std::uint32_t>("element type"), 5U);  // i32
        (void)in.take(in.read<std::uint64_t>("length") * 4, "array");
        break;
      default: ADD_FAILURE() << "this reader does not know the type of " << key; return {};
    }
  }
  std::map<std::string, GgufTensor> found;
  std::map<std::string, std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::string name = text();
    std::uint64_t elements = 1;
    const auto dims = in.read<std::uint32_t>("dims");
    for (std::uint32_t d = 0; d < dims; ++d) elements *= in.read<std::uint64_t>("dim");
    const auto type = in.read<std::uint32_t>("type");
    const auto* row = find_ggml_type(type);
    offsets[name] = in.read<std::uint64_t>("offset");
    const auto bytes =
        elements / static_cast<std::uint64_t>(row->block_elements) * static_cast<std::uint64_t>(row->block_bytes);
    found[name] = {type, file.first(bytes)};
  }
  const std::uint64_t data = (in.offset() + 31) / 32 * 32;
  for (auto& [name, tensor] : found) tensor.data = file.subspan(data + offsets[name], tensor.data.size());
  return found;
}

// MLX's own GGUF loader keeps these three types as packed codes: its words against the blocks they came from.
// Source: ml-explore/mlx mlx/io/gguf_quants.cpp.
TEST(GgmlToMlxGolden, BlocksRepackIntoTheWordsThatMlxLoads) {
  REGAUGE_GOLDEN_OR_SKIP(gguf_path, "mlx/gguf_import.gguf");
  REGAUGE_GOLDEN_OR_SKIP(mlx_path, "mlx/gguf_import.safetensors");
  const Bytes gguf = regauge::testing::read_whole_file(gguf_path);
  const GoldenFile mlx(mlx_path);
  std::size_t compared = 0;
  for (const auto& [tensor, stored] : tensors_of_gguf(gguf)) {
    const auto* row = find_ggml_type(stored.type);
    if (!row->block) continue;
    SCOPED_TRACE(tensor);
    const BlockType type = *row->block;
    const Pieces pieces = unpack(type, stored.data);
    // MLX's codes are unsigned: those of q8_0 move by 128.
    Codes codes = pieces.codes;
    if (type == BlockType::q8_0) {
      for (auto& code : codes) code ^= 0x80;
    }
    const std::string prefix = tensor.substr(0, tensor.size() - std::string(".weight").size());
    const int bits = block_code_bits(type);
    const std::int64_t columns = 128;
    const std::int64_t rows = static_cast<std::int64_t>(codes.size()) / columns;
    const Bytes words(mlx[prefix + ".weight"].bytes.begin(), mlx[prefix + ".weight"].bytes.end());
    Bytes packed = unwritten(words.size());
    pack_mlx_rows(bits, rows, columns, codes, packed);
    EXPECT_EQ(packed, words);
    Codes unpacked = unwritten_codes(codes.size());
    unpack_mlx_rows(bits, rows, columns, words, unpacked);
    EXPECT_EQ(unpacked, codes);
    EXPECT_EQ(mlx[prefix + ".scales"].as<std::uint16_t>(), pieces.d);
    if (type == BlockType::q4_1) {
      EXPECT_EQ(mlx[prefix + ".biases"].as<std::uint16_t>(), pieces.m);
    }
    ++compared;
  }
  EXPECT_EQ(compared, 3U);
}

}  // namespace
}  // namespace regauge::layouts
