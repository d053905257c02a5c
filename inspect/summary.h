#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inspect/catalog.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// Tensors counted together.
struct Tally {
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;

  void add(const Tally& other) noexcept;
  /// Stored bits for each parameter; nothing when there is no parameter.
  std::optional<double> bits() const noexcept;

  bool operator==(const Tally&) const = default;
};

/// One line of the main table: every tensor of a component that is stored in the same encoding.
struct TableRow {
  Component component = Component::other;
  std::string encoding;
  bool quantized = false;
  Tally tally;
};

struct ArchitectureFacts {
  std::string family;
  std::string label;
  int layers = 0;
  std::vector<int> attention_layers;  ///< those with full attention; the others are linear
  int announced_mtp_layers = 0;
  bool announces_vision = false;
  bool tied_head = false;
};

/// One decoder block of the text model.
struct LayerFacts {
  int layer = 0;
  std::string kind;  ///< "attention" or "deltanet"
  Tally tally;
};

/// What a person wants to know first, as plain values; headers only.
struct Summary {
  std::string path;
  std::string format;
  std::string format_version;
  Dialect dialect = Dialect::hf;
  std::string name;                               ///< general.name of a GGUF file, else empty
  std::optional<ArchitectureFacts> architecture;  ///< nothing when it is none that we know
  std::string claimed_architecture;               ///< as config.json or general.architecture spells it; may be empty
  bool architecture_refused = false;              ///< its configuration names one that we know and cannot be used
  std::string quantization;  ///< one line about the method, from its own configuration; may be empty

  std::string keys;  ///< one line about the keys of a GGUF file and its vocabulary; else empty

  std::uint64_t files = 0;
  std::uint64_t arrays = 0;
  std::uint64_t unused_arrays = 0;
  std::uint64_t array_bytes = 0;
  std::uint64_t file_bytes = 0;  ///< with headers and padding

  Tally quantized;  ///< tensors in grouped codes or blocks, with scales, zeros and indices, without low-rank factors
  Tally text;       ///< without MTP, vision and factors
  Tally mtp;
  Tally vision;
  Tally factors;     ///< parameters of low-rank factors; tensors counts the corrected modules (or loose factor tensors)
  Tally everything;  ///< all arrays over all parameters but those of factors

  std::vector<TableRow> table;  ///< by component, then by bytes, largest first
  std::vector<LayerFacts> layers;
  std::vector<Sidecar> sidecars;
};

Summary summarise(const Checkpoint& checkpoint, const Architecture* architecture, const Catalog& catalog);

/// What config.json or the GGUF keys call the architecture, known or not; empty when they say nothing.
std::string claimed_architecture(const Checkpoint& checkpoint);

}  // namespace regauge::inspect
