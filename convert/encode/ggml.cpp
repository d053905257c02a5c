#include "convert/encode/ggml.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "convert/encode/block_encoders.h"
#include "convert/encode/encode_with.h"

namespace regauge {
namespace {

using namespace ggml_encode;

using RowEncoder = void (*)(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;

/// Null for types that have none.
RowEncoder row_encoder(BlockType type) noexcept {
  switch (type) {
    case BlockType::q4_0: return encode_q4_0;
    case BlockType::q4_1: return encode_q4_1;
    case BlockType::q5_0: return encode_q5_0;
    case BlockType::q5_1: return encode_q5_1;
    case BlockType::q8_0: return encode_q8_0;
    case BlockType::q2_K: return encode_q2_k;
    case BlockType::q3_K: return encode_q3_k;
    case BlockType::q4_K: return encode_q4_k;
    case BlockType::q5_K: return encode_q5_k;
    case BlockType::q6_K: return encode_q6_k;
    case BlockType::iq4_nl: return encode_iq4_nl;
    case BlockType::iq4_xs: return encode_iq4_xs;
    case BlockType::tq1_0: return encode_tq1_0;
    case BlockType::tq2_0: return encode_tq2_0;
    case BlockType::mxfp4: return encode_mxfp4;
    case BlockType::nvfp4: return encode_nvfp4;
    case BlockType::q1_0: return encode_q1_0;
    case BlockType::q2_0: return encode_q2_0;
    default: return nullptr;
  }
}

bool is_finite(float value) noexcept { return (std::bit_cast<std::uint32_t>(value) & 0x7F800000U) != 0x7F800000U; }

void require_finite(const Kernels& kernels, std::span<const float> values, std::size_t first, std::string_view what) {
  if (kernels.all_finite(values)) return;
  std::size_t at = 0;
  while (is_finite(values[at])) ++at;
  throw Error(ErrorCode::invalid, "{} {} is {}, which no block can stand for", what, first + at, values[at]);
}

}  // namespace

bool can_encode(BlockType type) noexcept { return row_encoder(type) != nullptr; }

bool uses_importance(BlockType type) noexcept {
  switch (type) {
    case BlockType::q4_0:
    case BlockType::q4_1:
    case BlockType::q5_0:
    case BlockType::q5_1:
    case BlockType::q2_K:
    case BlockType::q3_K:
    case BlockType::q4_K:
    case BlockType::q5_K:
    case BlockType::q6_K:
    case BlockType::iq4_nl:
    case BlockType::iq4_xs: return true;
    default: return false;
  }
}

void encode_ggml(BlockType type, std::int64_t columns, std::span<const float> values, std::span<const float> importance,
                 std::span<std::byte> blocks) {
  encode_ggml_with(*kernels_here().front(), type, columns, values, importance, blocks);
}

void ggml_encode::encode_ggml_with(const Kernels& kernels, BlockType type, std::int64_t columns,
                                   std::span<const float> values, std::span<const float> importance,
                                   std::span<std::byte> blocks) {
  const RowEncoder encode = row_encoder(type);
  if (encode == nullptr) throw Error(ErrorCode::unsupported, "ggml type {} has no encoder here", name(type));
  const auto elements = static_cast<std::size_t>(block_elements(type));
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  const auto width = static_cast<std::size_t>(columns);
  if (columns <= 0 || width % elements != 0 || values.size() % width != 0) {
    throw Error(ErrorCode::invalid, "{} values are not whole rows of {} in blocks of {}", values.size(), columns,
                elements);
  }
  if (blocks.size() / bytes != values.size() / elements || blocks.size() % bytes != 0) {
    throw Error(ErrorCode::invalid, "{} values of {} do not take {} bytes", values.size(), name(type), blocks.size());
  }
  if (!importance.empty() && importance.size() != width) {
    throw Error(ErrorCode::invalid, "{} weights do not belong to {} columns", importance.size(), columns);
  }
  require_finite(kernels, importance, 0, "weight");
  const Weights weights = uses_importance(type) ? importance : Weights{};
  auto* out = reinterpret_cast<std::uint8_t*>(blocks.data());
  // A part is small enough to be in the first cache when it is read for the second time. Where weights are given it is a
  // row, because they begin again with it and some types look at all of it.
  constexpr std::size_t kPart = 2048;  // a multiple of every block
  const std::size_t part = weights.empty() ? kPart : width;
  for (std::size_t first = 0; first < values.size(); first += part) {
    const Row row = values.subspan(first, std::min(part, values.size() - first));
    require_finite(kernels, row, first, "value");
    encode(kernels, row, weights, Blocks(out + first / elements * bytes, row.size() / elements * bytes));
  }
}

}  // namespace regauge
