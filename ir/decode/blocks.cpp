#include "ir/decode/blocks.h"

#include <cstdint>

#include "base/error.h"
#include "ir/decode/block_decoders.h"

namespace regauge {
namespace {

using namespace ggml_blocks;

enum class Form : std::uint8_t { portable, here };

/// What one call decodes.
struct Work {
  BlockType type;
  Form form;
  std::span<const std::byte> blocks;
  std::span<float> out;
};

std::size_t checked_count(const Work& work, std::size_t bytes, std::size_t elements) {
  const std::size_t count = work.blocks.size() / bytes;
  if (work.blocks.size() % bytes != 0 || work.out.size() % elements != 0 || work.out.size() / elements != count) {
    throw Error(ErrorCode::invalid, "{} bytes do not hold {} values in blocks of {} bytes and {} values",
                work.blocks.size(), work.out.size(), bytes, elements);
  }
  return count;
}

template <std::size_t Bytes, std::size_t Elements>
void run(void (*decode)(Block<Bytes>, Values<Elements>) noexcept, const Work& work) {
  const std::size_t count = checked_count(work, Bytes, Elements);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(work.blocks.data());
  for (std::size_t i = 0; i < count; ++i) {
    decode(Block<Bytes>(bytes + i * Bytes, Bytes), Values<Elements>(work.out.data() + i * Elements, Elements));
  }
}

void run(const Runs& runs, const Work& work) {
  const std::size_t count = checked_count(work, static_cast<std::size_t>(block_bytes(work.type)),
                                          static_cast<std::size_t>(block_elements(work.type)));
  const Run decode = work.form == Form::here ? runs.here : runs.portable;
  decode(reinterpret_cast<const std::uint8_t*>(work.blocks.data()), work.out.data(), count);
}

void decode(const Work& work) {
  // No default: a new block type without a decoder is a compiler warning.
  switch (work.type) {
    case BlockType::q4_0: return run(q4_0_runs(), work);
    case BlockType::q4_1: return run(q4_1_runs(), work);
    case BlockType::q5_0: return run(q5_0_runs(), work);
    case BlockType::q5_1: return run(q5_1_runs(), work);
    case BlockType::q8_0: return run(q8_0_runs(), work);
    case BlockType::q8_1: break;
    case BlockType::q2_K: return run(q2_k_runs(), work);
    case BlockType::q3_K: return run(q3_k_runs(), work);
    case BlockType::q4_K: return run(q4_k_runs(), work);
    case BlockType::q5_K: return run(q5_k_runs(), work);
    case BlockType::q6_K: return run(q6_k_runs(), work);
    case BlockType::q8_K: return run(q8_k_runs(), work);
    case BlockType::iq2_xxs: return run(decode_iq2_xxs, work);
    case BlockType::iq2_xs: return run(decode_iq2_xs, work);
    case BlockType::iq3_xxs: return run(decode_iq3_xxs, work);
    case BlockType::iq1_s: return run(decode_iq1_s, work);
    case BlockType::iq4_nl: return run(decode_iq4_nl, work);
    case BlockType::iq3_s: return run(decode_iq3_s, work);
    case BlockType::iq2_s: return run(decode_iq2_s, work);
    case BlockType::iq4_xs: return run(decode_iq4_xs, work);
    case BlockType::iq1_m: return run(decode_iq1_m, work);
    case BlockType::tq1_0: return run(tq1_0_runs(), work);
    case BlockType::tq2_0: return run(tq2_0_runs(), work);
    case BlockType::mxfp4: return run(decode_mxfp4, work);
    case BlockType::nvfp4: return run(decode_nvfp4, work);
    case BlockType::q1_0: return run(q1_0_runs(), work);
    case BlockType::q2_0: return run(q2_0_runs(), work);
  }
  throw Error(ErrorCode::unsupported, "ggml type {} has no decoder", static_cast<int>(work.type));
}

}  // namespace

bool can_decode(BlockType type) noexcept { return type != BlockType::q8_1; }

void decode_blocks(BlockType type, std::span<const std::byte> blocks, std::span<float> out) {
  decode({.type = type, .form = Form::here, .blocks = blocks, .out = out});
}

void decode_blocks_portably(BlockType type, std::span<const std::byte> blocks, std::span<float> out) {
  decode({.type = type, .form = Form::portable, .blocks = blocks, .out = out});
}

}  // namespace regauge
