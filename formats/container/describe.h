#pragma once

#include <span>
#include <string>
#include <utility>

#include "base/digest.h"
#include "formats/container/description.h"
#include "ir/checkpoint.h"

namespace regauge::container {

using ValueDigests = std::span<const std::pair<std::string, Digest128>>;

/// A description and the checkpoint's own place of everything in it.
struct Contents {
  Description description;
  std::vector<std::size_t> arrays;  ///< of each described array: its index in Checkpoint::arrays
};

/// Describes a checkpoint of any format, one that came out of a container included; `values` are digests by tensor name.
/// Throws Error{unsupported} for files that cannot be carried: names that no directory could take back, and files from
/// outside the checkpoint.
Contents describe(const Checkpoint& checkpoint, ValueDigests values);

}  // namespace regauge::container
