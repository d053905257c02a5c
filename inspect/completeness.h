#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "inspect/catalog.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// A tensor whose name the architecture knows and whose shape it does not.
struct WrongShape {
  std::size_t tensor = 0;  ///< index into Checkpoint::tensors
  Shape expected;
};

/// The tensors that are there against those that a model of this size must have.
struct Completeness {
  std::vector<ExpectedSlot> missing;     ///< a tower that is absent as a whole (vision, MTP) is not listed
  std::vector<std::size_t> unknown;      ///< indices into Checkpoint::tensors: names that mean nothing here
  std::vector<WrongShape> wrong_shapes;  ///< neither missing nor unknown
  std::vector<std::size_t> repeated;     ///< tensors that hold a weight which an earlier tensor holds already
  bool has_vision = false;               ///< at least one tensor of it
  bool has_mtp = false;
  bool is_draft =
      false;  ///< an MTP block in a file of its own (models/mtp_draft.h): blocks of the model are not missing
};

Completeness check_completeness(const Checkpoint& checkpoint, const Architecture& architecture, const Catalog& catalog);

/// Slots grouped by role for people: "mlp.up_proj.weight (layers 0-2, 7), lm_head.weight", after `most` groups "and N more".
std::string describe_slots(const std::vector<ExpectedSlot>& slots, std::size_t most);

/// Ascending numbers as runs: "0-2, 7".
std::string describe_numbers(const std::vector<int>& ascending);

}  // namespace regauge::inspect
