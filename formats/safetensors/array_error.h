#pragma once

#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "ir/checkpoint.h"

namespace regauge {

/// Error{malformed} about one array of a checkpoint: its name, its file and where it lies there. The message is formatted.
template <typename... Args>
Error malformed_array(const Checkpoint& checkpoint, std::size_t index, fmt::format_string<Args...> format,
                      Args&&... args) {
  const StoredArray& array = checkpoint.arrays[index];
  return Error(ErrorCode::malformed, format, std::forward<Args>(args)...)
      .tensor(excerpt(array.name))
      .at(checkpoint.files[array.file].file->path())
      .offset(array.offset);
}

}  // namespace regauge
