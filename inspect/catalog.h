#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/checkpoint.h"
#include "ir/slot.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// One tensor of a checkpoint with everything that tables ask about it. Bytes and parameters of low-rank factors are kept
/// apart: they correct weights and are none themselves.
struct Entry {
  std::size_t tensor = 0;  ///< index into Checkpoint::tensors
  Component component = Component::other;
  int layer = -1;                    ///< block number inside its component's tower; -1 outside of blocks
  std::string role;                  ///< what it is within its block: Slot::role, or the name behind the block number
  std::optional<Assembly> assembly;  ///< set when the architecture knows the name

  std::string encoding;
  bool quantized = false;
  bool tied_copy = false;  ///< a stored head of a model whose head is its embedding: no parameters of its own

  std::uint64_t parameters = 0;  ///< logical weights: N * K of a quantized module, whatever arrays it is made of
  std::uint64_t bytes = 0;       ///< of all its arrays but the factors
  std::uint64_t factor_parameters = 0;
  std::uint64_t factor_bytes = 0;
  std::int64_t rank = 0;  ///< of the factors; 0 without
};

/// Every tensor once, in the checkpoint's order, and the arrays that belong to none.
struct Catalog {
  std::vector<Entry> entries;
  std::vector<std::size_t> unused_arrays;  ///< indices into Checkpoint::arrays
};

/// Goes by headers alone. `architecture` may be null: tensors then keep their own names and are Component::other.
Catalog make_catalog(const Checkpoint& checkpoint, const Architecture* architecture);

/// Whether a name is that of a low-rank factor: "….lora_A", "….lora_b.weight", "….weight.lora_a".
bool is_factor_name(std::string_view name);

/// Where a name that no architecture explains has its block number, and what follows: "h.3.attn.w" is 3 and "attn.w".
struct BlockName {
  int layer = -1;
  std::string rest;
};
BlockName split_block_name(std::string_view name);

}  // namespace regauge::inspect
