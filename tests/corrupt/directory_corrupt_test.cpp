#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/corrupt/directory_case.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

using testing::DirectoryCase;
using testing::safetensors_bytes;
using testing::safetensors_entry;
using testing::write_index;
using testing::write_shard;
using testing::write_text;

class DirectoryCorrupt : public ::testing::TestWithParam<DirectoryCase> {};

TEST_P(DirectoryCorrupt, GetsWhatItDeserves) { testing::check_directory(GetParam()); }

constexpr const char* kIndex = "model.safetensors.index.json";

const DirectoryCase kIndexCases[] = {
    {"index_names_a_missing_shard",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_index(model, R"({"x":"a.safetensors","y":"b.safetensors"})");
     },
     ErrorCode::not_found, kIndex},
    {"index_climbs_out",
     [](const fs::path& model) {
       write_shard(model.parent_path() / "a.safetensors", "x");
       write_index(model, R"({"x":"../a.safetensors"})");
     },
     ErrorCode::malformed, kIndex},
    {"index_climbs_out_from_below",
     [](const fs::path& model) {
       write_shard(model.parent_path() / "a.safetensors", "x");
       fs::create_directories(model / "sub");
       write_index(model, R"({"x":"sub/../../a.safetensors"})");
     },
     ErrorCode::malformed, kIndex},
    {"index_has_an_absolute_path",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_index(model, "{\"x\":\"" + (model / "a.safetensors").native() + "\"}");
     },
     ErrorCode::malformed, kIndex},
    {"shard_is_a_link_out",
     [](const fs::path& model) {
       write_shard(model.parent_path() / "secret", "x");
       fs::create_symlink("../secret", model / "a.safetensors");
       write_index(model, R"({"x":"a.safetensors"})");
     },
     ErrorCode::malformed, "a.safetensors"},
    {"shard_lies_behind_a_linked_folder",
     [](const fs::path& model) {
       write_shard(model.parent_path() / "outside" / "a.safetensors", "x");
       fs::create_directory_symlink("../outside", model / "sub");
       write_index(model, R"({"x":"sub/a.safetensors"})");
     },
     ErrorCode::malformed, "sub/a.safetensors"},
    {"single_file_is_a_link_out",
     [](const fs::path& model) {
       write_shard(model.parent_path() / "secret", "x");
       fs::create_symlink("../secret", model / "model.safetensors");
     },
     ErrorCode::malformed, "model.safetensors"},
    {"index_is_a_link_out",
     [](const fs::path& model) {
       write_text(model.parent_path() / "secret", "{}");
       fs::create_symlink("../secret", model / kIndex);
     },
     ErrorCode::malformed, kIndex},
    {"config_is_a_link_out",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model.parent_path() / "secret", "{}");
       fs::create_symlink("../secret", model / "config.json");
     },
     ErrorCode::malformed, "config.json"},
    {"link_inside_the_folder_is_fine",
     [](const fs::path& model) {
       write_shard(model / "real" / "a", "x");
       fs::create_symlink("real/a", model / "model.safetensors");
     },
     std::nullopt},
    {"shard_is_a_dangling_link",
     [](const fs::path& model) {
       fs::create_symlink("nowhere", model / "a.safetensors");
       write_index(model, R"({"x":"a.safetensors"})");
     },
     ErrorCode::not_found, kIndex},
    {"shard_is_a_loop_of_links",
     [](const fs::path& model) {
       fs::create_symlink("a.safetensors", model / "a.safetensors");
       write_index(model, R"({"x":"a.safetensors"})");
     },
     ErrorCode::not_found, kIndex},
    {"shard_is_a_folder",
     [](const fs::path& model) {
       fs::create_directories(model / "a.safetensors");
       write_index(model, R"({"x":"a.safetensors"})");
     },
     ErrorCode::invalid, "a.safetensors"},
    {"array_listed_but_absent",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_index(model, R"({"x":"a.safetensors","y":"a.safetensors"})");
     },
     ErrorCode::malformed, kIndex},
    {"array_in_another_shard",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_shard(model / "b.safetensors", "y");
       write_index(model, R"({"x":"b.safetensors","y":"b.safetensors"})");
     },
     std::nullopt, "", "index-wrong-shard"},
    {"array_present_but_unlisted",
     [](const fs::path& model) {
       testing::write_whole_file(model / "a.safetensors",
                                 safetensors_bytes("{" + safetensors_entry("x", "U8", "[1]", "[0,1]") + "," +
                                                       safetensors_entry("y", "U8", "[1]", "[1,2]") + "}",
                                                   2));
       write_index(model, R"({"x":"a.safetensors"})");
     },
     std::nullopt, "", "index-tensor-unlisted"},
    {"shard_present_but_unlisted",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_shard(model / "b.safetensors", "y");
       write_index(model, R"({"x":"a.safetensors"})");
     },
     std::nullopt, "", "shard-unlisted"},
    {"array_in_two_shards",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_shard(model / "b.safetensors", "x");
     },
     ErrorCode::malformed, "b.safetensors"},
    {"names_that_differ_in_case",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_shard(model / "A.safetensors", "y");
     },
     std::nullopt, "", "file-case-collision"},
    {"index_is_no_json", [](const fs::path& model) { write_text(model / kIndex, "weights"); }, ErrorCode::malformed,
     kIndex},
    {"index_is_an_array", [](const fs::path& model) { write_text(model / kIndex, "[]"); }, ErrorCode::malformed,
     kIndex},
    {"index_without_weight_map", [](const fs::path& model) { write_text(model / kIndex, "{}"); }, ErrorCode::malformed,
     kIndex},
    {"index_with_an_array_as_weight_map", [](const fs::path& model) { write_index(model, "[]"); }, ErrorCode::malformed,
     kIndex},
    {"index_with_a_number_as_shard", [](const fs::path& model) { write_index(model, R"({"x":1})"); },
     ErrorCode::malformed, kIndex},
    {"index_with_an_empty_shard_name", [](const fs::path& model) { write_index(model, R"({"x":""})"); },
     ErrorCode::malformed, kIndex},
    {"index_with_nul_in_a_shard_name",
     [](const fs::path& model) { write_index(model, R"({"x":"a.safetensors\u0000.safetensors"})"); },
     ErrorCode::malformed, kIndex},
    {"index_of_pickles", [](const fs::path& model) { write_index(model, R"({"x":"pytorch_model.bin"})"); },
     ErrorCode::malformed, kIndex},
    {"index_lists_an_array_twice",
     [](const fs::path& model) {
       write_shard(model / "a.safetensors", "x");
       write_index(model, R"({"x":"a.safetensors","x":"a.safetensors"})");
     },
     ErrorCode::malformed, kIndex},
    {"index_100000_deep", [](const fs::path& model) { write_text(model / kIndex, std::string(100'000, '[')); },
     ErrorCode::malformed, kIndex},
    {"index_of_nothing", [](const fs::path& model) { write_index(model, "{}"); }, ErrorCode::not_found, ""},
    {"two_indexes_of_which_none_is_the_usual",
     [](const fs::path& model) {
       write_text(model / "a.safetensors.index.json", "{}");
       write_text(model / "b.safetensors.index.json", "{}");
     },
     ErrorCode::malformed, ""},
};

const DirectoryCase kFileCases[] = {
    {"shard_is_an_lfs_pointer",
     [](const fs::path& model) {
       write_text(model / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
     },
     ErrorCode::unsupported, "model.safetensors"},
    {"shard_is_an_html_page", [](const fs::path& model) { write_text(model / "model.safetensors", "<html></html>"); },
     ErrorCode::unsupported, "model.safetensors"},
    {"shard_is_empty", [](const fs::path& model) { write_text(model / "model.safetensors", ""); },
     ErrorCode::unsupported, "model.safetensors"},
    {"config_of_1_gigabyte",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model / "config.json", "{");
       fs::resize_file(model / "config.json", std::uintmax_t{1} << 30);
     },
     ErrorCode::malformed, "config.json"},
    {"index_of_1_gigabyte",
     [](const fs::path& model) {
       write_text(model / kIndex, "{");
       fs::resize_file(model / kIndex, std::uintmax_t{1} << 30);
     },
     ErrorCode::malformed, kIndex},
    {"config_100000_deep",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model / "config.json", "{\"a\":" + std::string(100'000, '['));
     },
     ErrorCode::malformed, "config.json"},
    {"config_is_an_array",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model / "config.json", "[]");
     },
     ErrorCode::malformed, "config.json"},
    {"config_is_no_json",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model / "config.json", "{'a': 1}");
     },
     ErrorCode::malformed, "config.json"},
    // Nothing is allocated by a number in a configuration; who needs it later has limits of its own.
    {"config_of_1000000000_layers",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model / "config.json", R"({"num_hidden_layers":1000000000})");
     },
     std::nullopt},
    {"config_repeats_a_key",
     [](const fs::path& model) {
       write_shard(model / "model.safetensors", "x");
       write_text(model / "config.json", R"({"a":1,"a":2})");
     },
     std::nullopt, "", "config-repeated-key"},
};

INSTANTIATE_TEST_SUITE_P(Index, DirectoryCorrupt, ::testing::ValuesIn(kIndexCases),
                         [](const auto& param) { return std::string(param.param.name); });
INSTANTIATE_TEST_SUITE_P(Files, DirectoryCorrupt, ::testing::ValuesIn(kFileCases),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace regauge
