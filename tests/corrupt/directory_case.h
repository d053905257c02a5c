#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/format.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/builders.h"
#include "tests/support/corrupt_case.h"
#include "tests/support/golden.h"

namespace regauge::testing {

namespace fs = std::filesystem;

inline void write_text(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

/// A shard with one array of four bytes.
inline void write_shard(const fs::path& path, std::string_view array) {
  fs::create_directories(path.parent_path());
  write_whole_file(path, safetensors_bytes("{" + safetensors_entry(array, "U8", "[4]", "[0,4]") + "}", 4));
}

inline void write_index(const fs::path& folder, std::string_view weight_map) {
  write_text(folder / "model.safetensors.index.json", "{\"weight_map\":" + std::string(weight_map) + "}");
}

/// One way in which a directory can be wrong: `build` fills `model`, a folder of its own with a folder beside it.
struct DirectoryCase {
  const char* name;
  std::function<void(const fs::path& model)> build;
  std::optional<ErrorCode> code;  ///< of the refusal; nothing: it opens
  const char* file = "";          ///< that a refusal names, relative to `model`
  const char* finding = "";       ///< of an acceptance
  const char* open = "";          ///< what to open instead of the folder
};

inline void PrintTo(const DirectoryCase& directory, std::ostream* out) { *out << directory.name; }

/// Builds the directory, opens it and holds the outcome, and the memory it took, against the case.
inline void check_directory(const DirectoryCase& directory) {
  const ScratchDir scratch;
  const fs::path model = scratch / "model";
  fs::create_directories(model);
  directory.build(model);
  const fs::path opened = *directory.open == '\0' ? model : model / directory.open;
  const AllocationWatch watch;
  try {
    const Checkpoint checkpoint = open_checkpoint(opened);
    read_everything(checkpoint);
    ASSERT_FALSE(directory.code.has_value()) << "opened";
    const bool wants_finding = *directory.finding != '\0';
    EXPECT_EQ(wants_finding && has_finding(checkpoint, directory.finding), wants_finding);
  } catch (const Error& error) {
    ASSERT_TRUE(directory.code.has_value()) << error.what();
    EXPECT_EQ(error.code(), *directory.code) << error.what();
    EXPECT_EQ(error.file(), (*directory.file == '\0' ? model : model / directory.file).native()) << error.what();
  }
  EXPECT_LE(watch.largest(), std::size_t{4} << 20);
}

}  // namespace regauge::testing
