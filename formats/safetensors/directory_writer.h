#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "formats/safetensors/layout.h"

namespace regauge::safetensors {

/// Where a PEFT adapter lies in the directory of its model, by the names that its arrays have there; empty for others.
/// Source: ModelCloud/GPTQModel examples/eora, huggingface/peft src/peft/utils/constants.py.
std::string_view adapter_file_of(std::string_view array);

/// How the directories of the formats differ whose arrays lie in safetensors files.
struct DirectoryStyle {
  FileStyle file;
  bool indexes_one_file = false;  ///< write an index also where there is one file
  int index_indent = 2;
  bool index_ends_in_line_feed = true;
  /// `total_parameters` of the index, by the arrays and the files that go with them; null or nothing: no such key.
  std::optional<std::uint64_t> (*count_parameters)(std::span<const ArrayPlan>, std::span<const CarriedFile>) = nullptr;
  /// The file of its own that an array goes to, which the index does not name; empty for arrays of the model.
  std::string_view (*side_file_of)(std::string_view array) = adapter_file_of;
};

/// File `number` of `count`, from 0: model.safetensors, or model-00001-of-00003.safetensors.
std::string shard_name(std::size_t number, std::size_t count);

/// A writer of a Hugging Face directory: arrays in files of at most `options.shard_bytes` data bytes (0: all in one), cut in
/// the order of begin(), a larger array in a file of its own; the index; and `options.files`, as they are. Any order of
/// put(), from any thread. Throws what OutputDirectory::create throws, and at begin() Error{invalid} for carried files whose
/// names are no plain relative paths, are given twice, or are those of a shard or of the index.
std::unique_ptr<Writer> create_directory_writer(const std::filesystem::path& target, const WriteOptions& options,
                                                const DirectoryStyle& style = {});

}  // namespace regauge::safetensors
