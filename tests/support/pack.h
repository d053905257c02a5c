#pragma once

#include <cstddef>
#include <filesystem>

#include <gtest/gtest.h>

#include "formats/container/writer.h"

namespace regauge::testing {

/// Writes a checkpoint as a container; what may be written in any order goes last unit first.
inline void pack(const Checkpoint& source, const std::filesystem::path& target,
                 const container::ContainerOptions& options = {}) {
  container::ContainerWriter writer(target, {});
  writer.begin(source, options);
  EXPECT_EQ(writer.is_sequential(), options.zstd);
  if (writer.is_sequential()) {
    for (std::size_t i = 0; i < writer.units(); ++i) writer.append(i, writer.compress(i));
  } else {
    for (std::size_t i = writer.units(); i-- > 0;) writer.write(i);
  }
  writer.finish();
  EXPECT_EQ(std::filesystem::file_size(target), writer.file_bytes());
}

}  // namespace regauge::testing
