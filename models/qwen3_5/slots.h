#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "ir/dtype.h"
#include "ir/shape.h"
#include "ir/slot.h"
#include "ir/view.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {

/// Where in a model a kind of weight stands. MTP layers are decoder blocks: they share the kinds of Site::block.
enum class Site : std::uint8_t { text, block, mtp, vision, vision_block };
/// Which decoder blocks have it. MTP blocks are full-attention blocks.
enum class Mixer : std::uint8_t { any, deltanet, attention };
/// Which models have it.
enum class Mlp : std::uint8_t { any, dense, experts };
/// Which axis runs over the value heads of a DeltaNet mixer; GGUF files keep those in another order.
enum class ValueHeads : std::uint8_t {
  none,
  rows,         ///< one head after another, value_dim rows each
  qkv_rows,     ///< the same after the query and key rows
  single_rows,  ///< one row a head
  columns,      ///< value_dim columns a head
  vector,       ///< one element a head
};
/// How dialects shape it beyond a plain matrix or vector.
enum class Form : std::uint8_t {
  plain,
  convolution,  ///< [C, k] with an axis of 1 that each dialect puts elsewhere
  patch,        ///< [v, channels * patch * patch], one temporal slice of the patch kernel
};
/// When it has to be there.
enum class Presence : std::uint8_t {
  always,
  untied,  ///< unless the embedding serves as head
  foreign  ///< llama.cpp's loader takes it, no published checkpoint has it
};

/// A size of the model, by name; value_of() gives the number.
enum class Extent : std::uint8_t {
  none,
  one,
  hidden,
  twice_hidden,
  vocab,
  query_rows,
  kv_rows,
  attention_width,
  head_dim,
  conv_channels,
  value_width,
  value_heads,
  value_dim,
  conv,
  intermediate,
  experts,
  moe_intermediate,
  shared_intermediate,
  vision_hidden,
  vision_qkv,
  vision_intermediate,
  vision_positions,
  vision_patch,
  vision_merged,
  vision_out,
};

/// One kind of weight: the single description that names, shapes, conventions and the expected list are made of.
struct SlotKind {
  std::string_view role;  ///< Slot::role; of experts without their number
  /// Its name in a GGUF file, below "blk.N." or "v.blk.N."; empty for experts, which come in stacks.
  std::string_view gguf;
  Site site;
  Component component;
  Extent rows;  ///< Extent::none for a vector
  Extent columns;
  Mixer mixer = Mixer::any;
  Mlp mlp = Mlp::any;
  ValueHeads value_heads = ValueHeads::none;
  Form form = Form::plain;
  Elementwise change = Elementwise::none;  ///< what GGUF files and comparisons apply to the raw value
  bool linear = false;                     ///< see Architecture::is_linear
  bool single_precision = false;           ///< llama.cpp wants it in F32 although it is a matrix
  bool expert = false;                     ///< there is one per expert
  DType usual = DType::bf16;
  Presence presence = Presence::always;
};

std::span<const SlotKind> slot_kinds();

std::int64_t value_of(Extent extent, const Config& config);

/// The kind of `slot`, or null when the architecture has no such weight: an unknown role, or a layer or expert that a
/// model of these sizes has not.
const SlotKind* find_kind(const Slot& slot, const Config& config);
/// The kind with this role, wherever in the model it may stand; null when there is none.
const SlotKind* find_kind(Site site, std::string_view role);
/// The kind that a GGUF file calls `leaf` in such a place; null when there is none.
const SlotKind* find_gguf_kind(Site site, std::string_view leaf, bool attention, bool moe);

/// The slot of `kind` in a place; `layer` counts MTP blocks from 0 where `mtp` is set.
Slot make_slot(const SlotKind& kind, bool mtp, int layer, int expert = -1);

/// [rows, columns] or [n], as the canonical matrix. Throws Error{unsupported} when the sizes are not known.
Shape canonical_shape(const SlotKind& kind, const Config& config);

/// Whether an array of this shape can hold exactly one slot of `kind`, axes of length 1 aside. True when sizes are
/// unknown.
bool fits(const SlotKind& kind, const Config& config, const Shape& shape);

/// `shape` without its axes of length 1.
std::vector<std::int64_t> squeezed(const Shape& shape);

}  // namespace regauge::qwen3_5
