#include "convert/recipe/wish.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace regauge {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<AffineWish> affine_from_text(std::string_view text) {
  constexpr std::string_view kAsymmetric = "-asym";
  AffineWish wish;
  if (!text.starts_with("int")) return std::nullopt;
  text.remove_prefix(3);
  if (text.ends_with(kAsymmetric)) {
    wish.symmetric = false;
    text.remove_suffix(kAsymmetric.size());
  }
  const std::size_t dash = text.find("-g");
  const auto bits = whole_number(text.substr(0, dash));
  if (!bits || *bits < 1 || *bits > 8) return std::nullopt;
  wish.bits = static_cast<int>(*bits);
  if (dash == std::string_view::npos) return wish;
  const auto group = whole_number(text.substr(dash + 2));
  if (!group || *group < -1 || *group == 0 || *group > (1 << 20)) return std::nullopt;
  wish.group = *group;
  return wish;
}

std::optional<FloatBlocks> float_blocks_from_text(std::string_view text) {
  for (const FloatBlocks kind : {FloatBlocks::mxfp4, FloatBlocks::mxfp8, FloatBlocks::nvfp4}) {
    if (name(kind) == text) return kind;
  }
  return std::nullopt;
}

/// What a block type's codes are like, for formats without blocks. Codebooks and ternary codes come nearest to the next
/// width of whole codes.
AffineWish affine_like(BlockType type) {
  switch (type) {
    case BlockType::q2_K:
    case BlockType::q2_0:
    case BlockType::q1_0:
    case BlockType::tq1_0:
    case BlockType::tq2_0:
    case BlockType::iq1_s:
    case BlockType::iq1_m:
    case BlockType::iq2_xxs:
    case BlockType::iq2_xs:
    case BlockType::iq2_s: return {.bits = 2};
    case BlockType::q3_K:
    case BlockType::iq3_xxs:
    case BlockType::iq3_s: return {.bits = 3};
    case BlockType::q5_0:
    case BlockType::q5_1:
    case BlockType::q5_K: return {.bits = 5};
    case BlockType::q6_K: return {.bits = 6};
    case BlockType::q8_0:
    case BlockType::q8_1:
    case BlockType::q8_K: return {.bits = 8};
    default: return {.bits = 4};
  }
}

BlockType blocks_like(const AffineWish& wish) {
  static constexpr std::array<BlockType, 9> kByBits{BlockType::q2_K, BlockType::q2_K, BlockType::q2_K,
                                                    BlockType::q3_K, BlockType::q4_K, BlockType::q5_K,
                                                    BlockType::q6_K, BlockType::q8_0, BlockType::q8_0};
  return kByBits.at(static_cast<std::size_t>(wish.bits));
}

/// mlx-lm's default group is 64, GPTQModel's 128. GPTQ has no common reader for codes of 5 to 7 bits.
AffineWish in_words_of(AffineWish wish, Packing packing) {
  if (packing == Packing::gptq) {
    if (wish.bits == 1) wish.bits = 2;
    if (wish.bits > 4) wish.bits = 8;
    if (wish.group == 0) wish.group = 128;
  } else {
    if (wish.bits == 1) wish.bits = 2;
    if (wish.bits == 7) wish.bits = 8;
    if (wish.group == 0) wish.group = 64;
  }
  return wish;
}

bool has_blocks(const Format& format) { return !format.can_hold({"t", BlockType::q8_0, {1, 32}}); }

struct Translator {
  const Format& format;

  std::optional<Wish> operator()(ExactWish wish) const { return wish; }
  std::optional<Wish> operator()(DType dtype) const { return dtype; }

  std::optional<Wish> operator()(BlockType type) const {
    if (format.packing == Packing::one_array) return has_blocks(format) ? std::optional<Wish>(type) : std::nullopt;
    return in_words_of(affine_like(type), format.packing);
  }

  std::optional<Wish> operator()(AffineWish wish) const {
    if (format.packing != Packing::one_array) return in_words_of(wish, format.packing);
    return has_blocks(format) ? std::optional<Wish>(blocks_like(wish)) : std::nullopt;
  }

  std::optional<Wish> operator()(FloatBlocks kind) const {
    if (format.packing == Packing::mlx) return kind;
    const AffineWish codes{.bits = kind == FloatBlocks::mxfp8 ? 8 : 4};
    if (format.packing == Packing::gptq) return in_words_of(codes, format.packing);
    if (!has_blocks(format)) return std::nullopt;
    switch (kind) {
      case FloatBlocks::mxfp4: return BlockType::mxfp4;
      case FloatBlocks::nvfp4: return BlockType::nvfp4;
      case FloatBlocks::mxfp8: break;
    }
    return BlockType::q8_0;
  }
};

struct Printer {
  std::string operator()(ExactWish) const { return "exact"; }
  std::string operator()(DType dtype) const { return lower(name(dtype)); }
  std::string operator()(BlockType type) const { return std::string(name(type)); }
  std::string operator()(const AffineWish& wish) const {
    return fmt::format("int{}{}{}", wish.bits, wish.group == 0 ? "" : fmt::format("-g{}", wish.group),
                       wish.symmetric ? "" : "-asym");
  }
  std::string operator()(FloatBlocks kind) const { return std::string(name(kind)); }
};

}  // namespace

std::string to_string(const Wish& wish) { return std::visit(Printer{}, wish); }

std::optional<Wish> wish_from_text(std::string_view text) {
  const std::string word = lower(text);
  if (word == "exact") return ExactWish{};
  if (const auto kind = float_blocks_from_text(word)) return *kind;
  if (const auto wish = affine_from_text(word)) return *wish;
  const GgmlType* type = find_ggml_type(std::string_view(word));
  if (type == nullptr) return std::nullopt;
  if (type->block) return *type->block;
  const bool is_value_type = type->dtype == DType::f32 || type->dtype == DType::f16 || type->dtype == DType::bf16;
  return is_value_type ? std::optional<Wish>(*type->dtype) : std::nullopt;
}

std::optional<Wish> wish_like(const Encoding& encoding, std::int64_t columns) {
  if (const auto* dense = std::get_if<Dense>(&encoding)) {
    const bool is_value_type = dense->dtype == DType::f32 || dense->dtype == DType::f16 || dense->dtype == DType::bf16;
    return is_value_type ? std::optional<Wish>(dense->dtype) : std::nullopt;
  }
  if (const auto kind = float_blocks_of(encoding)) return *kind;
  if (const auto* blocked = std::get_if<Blocked>(&encoding)) return blocked->type;
  const auto* grouped = std::get_if<Grouped>(&encoding);
  if (grouped == nullptr || grouped->code != CodeKind::unsigned_int) return std::nullopt;
  const bool is_whole_row = grouped->group.cols == 0 || grouped->group.cols >= columns;
  return AffineWish{.bits = grouped->bits,
                    .group = is_whole_row ? -1 : grouped->group.cols,
                    .symmetric = grouped->offset != Offset::zero_point};
}

std::optional<Wish> translate(const Wish& wish, const Format& format) { return std::visit(Translator{format}, wish); }

std::variant<DType, BlockType> fit_blocks(BlockType type, std::int64_t columns) {
  if (columns % block_elements(type) == 0) return type;
  BlockType instead = type;
  switch (type) {
    case BlockType::iq4_xs: instead = BlockType::iq4_nl; break;
    case BlockType::q2_0:
    case BlockType::q2_K:
    case BlockType::q3_K:
    case BlockType::tq1_0:
    case BlockType::tq2_0: instead = BlockType::q4_0; break;
    case BlockType::q4_K: instead = BlockType::q5_0; break;
    case BlockType::q5_K: instead = BlockType::q5_1; break;
    case BlockType::q6_K: instead = BlockType::q8_0; break;
    default: break;
  }
  if (columns % block_elements(instead) == 0) return instead;
  return DType::f16;
}

}  // namespace regauge
