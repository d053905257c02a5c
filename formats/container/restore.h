#pragma once

#include <cstdint>
#include <filesystem>

#include "formats/format.h"

namespace regauge::container {

struct Restored {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  bool is_directory = false;
};

/// Writes the files that a container holds, byte for byte: `target` becomes the file itself where there is only one and it
/// is what was packed, else a directory of them. Everything is held against its digest on the way; the target appears when
/// all of it is there and right, and is otherwise left as it was. Throws Error{malformed}, naming array and offset, for
/// damaged data, and Error{invalid} for a target that exists and may not be overwritten.
Restored restore(const std::filesystem::path& container, const std::filesystem::path& target,
                 const WriteOptions& options = {});

}  // namespace regauge::container
