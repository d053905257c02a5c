#include <cstdio>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/corrupt/directory_case.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

using testing::DirectoryCase;

class GgufSplitCorrupt : public ::testing::TestWithParam<DirectoryCase> {};

TEST_P(GgufSplitCorrupt, GetsWhatItDeserves) { testing::check_directory(GetParam()); }

/// Writes shard `number` of `count` as its keys say, under the name of shard `named` of `named_count`.
void write_split(const fs::path& model, int named, int named_count, const testing::GgufBytes& file) {
  char name[40];
  std::snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", named, named_count);
  testing::write_whole_file(model / name, file.bytes());
}

testing::GgufBytes split_shard(int number, int count, int total, std::string_view tensor,
                               std::string_view architecture = {}) {
  testing::GgufBytes file;
  file.preamble(1, architecture.empty() ? 3 : 4);
  if (!architecture.empty()) file.text_key("general.architecture", architecture);
  file.key("split.no", 2)
      .u16(static_cast<std::uint16_t>(number))
      .key("split.count", 2)
      .u16(static_cast<std::uint16_t>(count));
  file.key("split.tensors.count", 5).i32(total);
  file.tensor(tensor, {32}, 24, 0).pad().data(32);
  return file;
}

constexpr const char* kFirst = "m-00001-of-00002.gguf";
constexpr const char* kSecond = "m-00002-of-00002.gguf";

const DirectoryCase kSplitCases[] = {
    {"split_as_it_should_be",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 2, 2, "y"));
     },
     std::nullopt, "", "", kSecond},
    {"split_number_out_of_range",
     [](const fs::path& model) { write_split(model, 1, 2, split_shard(2, 2, 2, "x", "llama")); }, ErrorCode::malformed,
     kFirst, "", kFirst},
    {"split_number_repeated",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(0, 2, 2, "y"));
     },
     ErrorCode::malformed, kSecond, "", kFirst},
    {"split_shard_missing", [](const fs::path& model) { write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama")); },
     ErrorCode::not_found, kSecond, "", kFirst},
    {"split_first_shard_missing", [](const fs::path& model) { write_split(model, 2, 2, split_shard(1, 2, 2, "y")); },
     ErrorCode::not_found, kFirst, "", kSecond},
    {"split_number_key_missing",
     [](const fs::path& model) {
       testing::GgufBytes file;
       file.preamble(0, 2).text_key("general.architecture", "x").key("split.count", 2).u16(2);
       write_split(model, 1, 2, file);
     },
     ErrorCode::malformed, kFirst, "", kFirst},
    {"split_count_key_missing",
     [](const fs::path& model) {
       testing::GgufBytes file;
       file.preamble(0, 2).text_key("general.architecture", "x").key("split.no", 2).u16(0);
       write_split(model, 1, 2, file);
     },
     ErrorCode::malformed, kFirst, "", kFirst},
    {"split_total_key_missing",
     [](const fs::path& model) {
       testing::GgufBytes file;
       file.preamble(0, 3).text_key("general.architecture", "x").key("split.no", 2).u16(0).key("split.count", 2).u16(2);
       write_split(model, 1, 2, file);
     },
     ErrorCode::malformed, kFirst, "", kFirst},
    {"split_second_shard_is_whole",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, testing::small_gguf());
     },
     ErrorCode::malformed, kSecond, "", kFirst},
    {"split_counts_disagree",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 3, 2, "y"));
     },
     ErrorCode::malformed, kSecond, "", kFirst},
    {"split_tensor_in_two_shards",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 2, 2, "x"));
     },
     ErrorCode::malformed, kSecond, "", kFirst},
    {"split_total_wrong",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 3, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 2, 3, "y"));
     },
     ErrorCode::malformed, kFirst, "", kFirst},
    {"split_total_negative",
     [](const fs::path& model) { write_split(model, 1, 2, split_shard(0, 2, -1, "x", "llama")); }, ErrorCode::malformed,
     kFirst, "", kFirst},
    {"split_totals_disagree",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 2, 9, "y"));
     },
     ErrorCode::malformed, kSecond, "", kFirst},
    {"split_architectures_differ",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 2, 2, "y", "qwen35"));
     },
     ErrorCode::malformed, kSecond, "", kFirst},
    {"split_architecture_repeated_and_equal",
     [](const fs::path& model) {
       write_split(model, 1, 2, split_shard(0, 2, 2, "x", "llama"));
       write_split(model, 2, 2, split_shard(1, 2, 2, "y", "llama"));
     },
     std::nullopt, "", "", kFirst},
    {"split_name_of_another_form",
     [](const fs::path& model) {
       testing::write_whole_file(model / "m.gguf", split_shard(0, 2, 2, "x", "llama").bytes());
     },
     ErrorCode::malformed, "m.gguf", "", "m.gguf"},
    {"split_name_contradicts_the_keys",
     [](const fs::path& model) { write_split(model, 2, 2, split_shard(0, 2, 2, "x", "llama")); }, ErrorCode::malformed,
     kSecond, "", kSecond},
    {"split_of_65535_shards_of_which_one_is_there",
     [](const fs::path& model) { write_split(model, 1, 65535, split_shard(0, 65535, 2, "x", "llama")); },
     ErrorCode::not_found, "m-00002-of-65535.gguf", "", "m-00001-of-65535.gguf"},
};

INSTANTIATE_TEST_SUITE_P(Split, GgufSplitCorrupt, ::testing::ValuesIn(kSplitCases),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace regauge
