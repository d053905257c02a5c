#include "ir/decode/blocks.h"

#include <cstdint>

#include "base/error.h"
#include "ir/decode/block_decoders.h"

namespace regauge {
namespace {

using namespace ggml_blocks;

template <std::size_t Bytes, std::size_t Elements>
void run(void (*decode)(Block<Bytes>, Values<Elements>) noexcept, std::span<const std::byte> blocks,
         std::span<float> out) {
  const std::size_t count = blocks.size() / Bytes;
  if (blocks.size() % Bytes != 0 || out.size() % Elements != 0 || out.size() / Elements != count) {
    throw Error(ErrorCode::invalid, "{} bytes do not hold {} values in blocks of {} bytes and {} values", blocks.size(),
                out.size(), Bytes, Elements);
  }
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(blocks.data());
  for (std::size_t i = 0; i < count; ++i) {
    decode(Block<Bytes>(bytes + i * Bytes, Bytes), Values<Elements>(out.data() + i * Elements, Elements));
  }
}

}  // namespace

bool can_decode(BlockType type) noexcept { return type != BlockType::q8_1; }

void decode_blocks(BlockType type, std::span<const std::byte> blocks, std::span<float> out) {
  // No default: a new block type without a decoder is a compiler warning.
  switch (type) {
    case BlockType::q4_0: return run(decode_q4_0, blocks, out);
    case BlockType::q4_1: return run(decode_q4_1, blocks, out);
    case BlockType::q5_0: return run(decode_q5_0, blocks, out);
    case BlockType::q5_1: return run(decode_q5_1, blocks, out);
    case BlockType::q8_0: return run(decode_q8_0, blocks, out);
    case BlockType::q8_1: break;
    case BlockType::q2_K: return run(decode_q2_k, blocks, out);
    case BlockType::q3_K: return run(decode_q3_k, blocks, out);
    case BlockType::q4_K: return run(decode_q4_k, blocks, out);
    case BlockType::q5_K: return run(decode_q5_k, blocks, out);
    case BlockType::q6_K: return run(decode_q6_k, blocks, out);
    case BlockType::q8_K: return run(decode_q8_k, blocks, out);
    case BlockType::iq2_xxs: return run(decode_iq2_xxs, blocks, out);
    case BlockType::iq2_xs: return run(decode_iq2_xs, blocks, out);
    case BlockType::iq3_xxs: return run(decode_iq3_xxs, blocks, out);
    case BlockType::iq1_s: return run(decode_iq1_s, blocks, out);
    case BlockType::iq4_nl: return run(decode_iq4_nl, blocks, out);
    case BlockType::iq3_s: return run(decode_iq3_s, blocks, out);
    case BlockType::iq2_s: return run(decode_iq2_s, blocks, out);
    case BlockType::iq4_xs: return run(decode_iq4_xs, blocks, out);
    case BlockType::iq1_m: return run(decode_iq1_m, blocks, out);
    case BlockType::tq1_0: return run(decode_tq1_0, blocks, out);
    case BlockType::tq2_0: return run(decode_tq2_0, blocks, out);
    case BlockType::mxfp4: return run(decode_mxfp4, blocks, out);
    case BlockType::nvfp4: return run(decode_nvfp4, blocks, out);
    case BlockType::q1_0: return run(decode_q1_0, blocks, out);
    case BlockType::q2_0: return run(decode_q2_0, blocks, out);
  }
  throw Error(ErrorCode::unsupported, "ggml type {} has no decoder", static_cast<int>(type));
}

}  // namespace regauge
