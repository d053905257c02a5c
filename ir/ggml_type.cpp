#include "ir/ggml_type.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace regauge {
namespace {

struct Row {
  GgmlType type;
  std::string_view upper;
};

constexpr Row dense(std::uint32_t id, std::string_view name, DType dtype, std::int64_t bytes) {
  return {{id, name, 1, bytes, dtype, std::nullopt}, {}};
}

constexpr Row blocked(BlockType type, std::string_view name, std::string_view upper, std::int64_t elements,
                      std::int64_t bytes) {
  return {{static_cast<std::uint32_t>(type), name, elements, bytes, std::nullopt, type}, upper};
}

constexpr std::array kRows{
    dense(0, "f32", DType::f32, 4),
    dense(1, "f16", DType::f16, 2),
    blocked(BlockType::q4_0, "q4_0", "Q4_0", 32, 18),
    blocked(BlockType::q4_1, "q4_1", "Q4_1", 32, 20),
    blocked(BlockType::q5_0, "q5_0", "Q5_0", 32, 22),
    blocked(BlockType::q5_1, "q5_1", "Q5_1", 32, 24),
    blocked(BlockType::q8_0, "q8_0", "Q8_0", 32, 34),
    blocked(BlockType::q8_1, "q8_1", "Q8_1", 32, 36),
    blocked(BlockType::q2_K, "q2_K", "Q2_K", 256, 84),
    blocked(BlockType::q3_K, "q3_K", "Q3_K", 256, 110),
    blocked(BlockType::q4_K, "q4_K", "Q4_K", 256, 144),
    blocked(BlockType::q5_K, "q5_K", "Q5_K", 256, 176),
    blocked(BlockType::q6_K, "q6_K", "Q6_K", 256, 210),
    blocked(BlockType::q8_K, "q8_K", "Q8_K", 256, 292),
    blocked(BlockType::iq2_xxs, "iq2_xxs", "IQ2_XXS", 256, 66),
    blocked(BlockType::iq2_xs, "iq2_xs", "IQ2_XS", 256, 74),
    blocked(BlockType::iq3_xxs, "iq3_xxs", "IQ3_XXS", 256, 98),
    blocked(BlockType::iq1_s, "iq1_s", "IQ1_S", 256, 50),
    blocked(BlockType::iq4_nl, "iq4_nl", "IQ4_NL", 32, 18),
    blocked(BlockType::iq3_s, "iq3_s", "IQ3_S", 256, 110),
    blocked(BlockType::iq2_s, "iq2_s", "IQ2_S", 256, 82),
    blocked(BlockType::iq4_xs, "iq4_xs", "IQ4_XS", 256, 136),
    dense(24, "i8", DType::i8, 1),
    dense(25, "i16", DType::i16, 2),
    dense(26, "i32", DType::i32, 4),
    dense(27, "i64", DType::i64, 8),
    dense(28, "f64", DType::f64, 8),
    blocked(BlockType::iq1_m, "iq1_m", "IQ1_M", 256, 56),
    dense(30, "bf16", DType::bf16, 2),
    blocked(BlockType::tq1_0, "tq1_0", "TQ1_0", 256, 54),
    blocked(BlockType::tq2_0, "tq2_0", "TQ2_0", 256, 66),
    blocked(BlockType::mxfp4, "mxfp4", "MXFP4", 32, 17),
    blocked(BlockType::nvfp4, "nvfp4", "NVFP4", 64, 36),
    blocked(BlockType::q1_0, "q1_0", "Q1_0", 128, 18),
    blocked(BlockType::q2_0, "q2_0", "Q2_0", 64, 18),
};

constexpr auto kTypes = [] {
  std::array<GgmlType, kRows.size()> types{};
  for (std::size_t i = 0; i < types.size(); ++i) types[i] = kRows[i].type;
  return types;
}();

const Row& row(BlockType type) {
  return *std::ranges::find(kRows, std::optional(type), [](const Row& r) { return r.type.block; });
}

bool same_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

std::span<const GgmlType> ggml_types() { return kTypes; }

const GgmlType* find_ggml_type(std::uint32_t id) {
  const auto found = std::ranges::find(kTypes, id, &GgmlType::id);
  return found == kTypes.end() ? nullptr : &*found;
}

const GgmlType* find_ggml_type(std::string_view name) {
  const auto found = std::ranges::find_if(kTypes, [&](const GgmlType& t) { return same_letters(t.name, name); });
  return found == kTypes.end() ? nullptr : &*found;
}

bool is_retired_ggml_type(std::uint32_t id) {
  return id == 4 || id == 5 || (id >= 31 && id <= 33) || (id >= 36 && id <= 38);
}

const GgmlType& ggml_type(BlockType type) { return row(type).type; }

const GgmlType* ggml_type(DType dtype) {
  const auto found = std::ranges::find(kTypes, std::optional(dtype), &GgmlType::dtype);
  return found == kTypes.end() ? nullptr : &*found;
}

std::string_view name(BlockType type) { return row(type).upper; }

}  // namespace regauge
