#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "inspect/catalog.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// Numbers of one part that are no numbers.
struct NonFinite {
  std::size_t tensor = 0;  ///< index into Checkpoint::tensors
  std::string part;        ///< "values", "scales", "biases", "lowrank_a" ...
  std::uint64_t nan = 0;
  std::uint64_t infinite = 0;
};

/// The mean of a norm vector that one dialect stores as w and another as 1 + w.
struct NormMean {
  std::size_t tensor = 0;
  double mean = 0;
  bool looks_shifted = false;   ///< mean nearer to 1 than to 0
  bool stored_shifted = false;  ///< what the checkpoint's dialect and shapes say
};

/// What only the data tells. Every stored byte of every decodable tensor has been read once.
struct ScanReport {
  std::size_t indexed = 0;              ///< modules with a group index
  std::vector<std::size_t> act_order;   ///< those whose index is not k / group
  std::size_t with_zeros = 0;           ///< modules with stored zero points
  std::vector<std::size_t> asymmetric;  ///< those with a zero point other than 2^(bits-1)
  std::vector<NonFinite> non_finite;
  std::vector<NormMean> norms;
  std::vector<std::size_t> opaque;  ///< tensors that are carried and have no values for us
  std::vector<std::string> unread;  ///< "name: reason", tensors that could not be read or decoded
  std::uint64_t tensors_read = 0;
  std::uint64_t bytes_read = 0;  ///< stored bytes of the tensors that were read
};

/// Stored bytes read so far, and all that will be.
using ScanProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Reads all data in bands, one tensor after the other. A tensor whose data cannot be read is listed, not thrown.
/// `architecture` may be null, `progress` empty.
ScanReport scan(const Checkpoint& checkpoint, const Architecture* architecture, const Catalog& catalog,
                const ScanProgress& progress = {});

}  // namespace regauge::inspect
