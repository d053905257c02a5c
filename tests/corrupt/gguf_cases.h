#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/corrupt_case.h"

// Broken and odd GGUF files by the part that is wrong. Each is whole but for the one thing its name says.
namespace regauge::testing {
namespace gguf_cases {

inline constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();
inline constexpr std::uint64_t k2To31 = std::uint64_t{1} << 31;
inline constexpr std::uint64_t k2To63 = std::uint64_t{1} << 63;

inline Bytes text(std::string_view content) { return GgufBytes().raw(content).bytes(); }

/// A file without tensors and with these counts, where the key count is true for "general.architecture".
inline Bytes counts(std::uint64_t tensors, std::uint64_t keys) {
  return GgufBytes().preamble(tensors, keys).text_key("general.architecture", "x").bytes();
}

inline Bytes version(std::uint32_t number) {
  return GgufBytes().raw("GGUF").u32(number).u64(0).u64(1).text_key("general.architecture", "x").bytes();
}

// The second key of a two-key file begins here: preamble, then "general.architecture" = "x".
inline constexpr std::uint64_t kSecondKey = 24 + 8 + 20 + 4 + 8 + 1;

/// A file without tensors with one more key after the architecture.
inline GgufBytes second_key() { return std::move(GgufBytes().preamble(0, 2).text_key("general.architecture", "x")); }

/// A file with one tensor, its description still to come; it begins at kSecondKey.
inline GgufBytes one_tensor() { return std::move(GgufBytes().preamble(1, 1).text_key("general.architecture", "x")); }
inline GgufBytes two_tensors() { return std::move(GgufBytes().preamble(2, 1).text_key("general.architecture", "x")); }

}  // namespace gguf_cases

inline std::vector<CorruptCase> gguf_header_cases() {
  using namespace gguf_cases;
  using C = CorruptCase;
  return {
      C::refused("empty", {}, {}, 0),
      C::refused("three_bytes", text("GGU"), {}, 0),
      C::refused("magic_only", text("GGUF"), {}, 4),
      C::refused("wrong_magic", text("GGUG\3\0\0\0"), {}, 0),
      C::refused("reversed_magic", text("FUGG"), {}, 0),
      C::refused("lfs_pointer", text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), {}, 0),
      C::refused("html_page", text("<!DOCTYPE html><html></html>"), {}, 0),
      C::refused("version_0", version(0), {}, 4),
      // Version 1 counts in 32 bits: here it finds one tensor, no keys, and a tensor's name of one NUL.
      C::refused("version_1_over_64_bit_counts", GgufBytes().raw("GGUF").u32(1).u64(1).u64(1).zeros(64).bytes(),
                 std::string(1, '\0'), 16),
      C::with_finding("version_1", GgufBytes(1).preamble(0, 1).key("k", 4).u32(0).bytes(), "architecture-missing")
          .unlike_its_owner(),
      C::accepted("version_2", version(2)),
      C::unsupported("version_4", version(4), {}, 4),
      C::unsupported("version_65535", version(65535), {}, 4),
      C::refused("version_swapped_over_little_endian", version(0x03000000)),
      C::unsupported("version_swapped_2", version(0x02000000), {}, 4),
      C::unsupported("version_swapped_4", version(0x04000000), {}, 4),
      C::unsupported("version_swapped_256", version(0x00010000), {}, 4),
      C::accepted("big_endian", GgufBytes(3, true).preamble(0, 1).text_key("general.architecture", "x").bytes())
          .unlike_its_owner(),
      C::refused("tensors_2_to_64_less_1", counts(kMax64, 1), {}, 8),
      C::refused("tensors_2_to_63", counts(k2To63, 1), {}, 8),
      C::refused("tensors_2_to_31", counts(k2To31, 1)),
      C::refused("tensors_1_too_many", counts(1, 1)),
      C::refused("keys_2_to_64_less_1", counts(0, kMax64), {}, 16),
      C::refused("keys_2_to_63", counts(0, k2To63), {}, 16),
      C::refused("keys_2_to_31", counts(0, k2To31)),
      C::refused("keys_1_too_many", counts(0, 2)),
      C::with_finding("no_keys", GgufBytes().preamble(0, 0).bytes(), "architecture-missing"),
  };
}

inline std::vector<CorruptCase> gguf_key_cases() {
  using namespace gguf_cases;
  using C = CorruptCase;
  std::vector<CorruptCase> cases;
  const auto key = [](std::string_view name, std::uint32_t type) { return std::move(second_key().key(name, type)); };
  const auto refused = [&cases](std::string name, const GgufBytes& file, std::optional<std::uint64_t> offset = {}) {
    cases.push_back(C::refused(std::move(name), file.bytes(), {}, offset));
  };
  const auto found = [&cases](std::string name, const GgufBytes& file, std::string finding) {
    cases.push_back(C::with_finding(std::move(name), file.bytes(), std::move(finding)));
  };

  refused("length_2_to_64_less_1", second_key().u64(kMax64).u32(4).u32(0), kSecondKey);
  refused("length_past_the_end", second_key().u64(100).raw("k").u32(4).u32(0));
  refused("length_0", key("", 4).u32(0), kSecondKey);
  found("length_65536", key(std::string(65536, 'k'), 4).u32(0), "key-too-long");
  cases.push_back(C::accepted("length_65535", key(std::string(65535, 'k'), 4).u32(0).bytes()));
  found("not_utf8", key("k\xff", 4).u32(0), "key-not-utf8");
  // ggml keeps the NUL inside and compares what stands before it.
  cases.push_back(
      C::refused("nul_inside", key(std::string_view("k\0k", 3), 4).u32(0).bytes(), {}, kSecondKey).unlike_its_owner());
  refused("duplicate", key("general.architecture", 8).string("y"), kSecondKey);
  refused("type_13", key("k", 13).u32(0), kSecondKey + 9);
  refused("type_255", key("k", 255).u32(0), kSecondKey + 9);
  refused("type_minus_1", key("k", 0xFFFFFFFFU).u32(0), kSecondKey + 9);
  found("bool_2", key("k", 7).u8(2), "bool-not-0-or-1");
  found("bool_2_in_array", key("k", 9).array(7, 2).u8(1).u8(2), "bool-not-0-or-1");
  refused("string_past_the_end", key("k", 8).u64(5).raw("abcd"), kSecondKey + 21);
  refused("string_2_to_63", key("k", 8).u64(k2To63).raw("abcd"), kSecondKey + 13);
  refused("string_2_to_64_less_1", key("k", 8).u64(kMax64).raw("abcd"), kSecondKey + 13);
  found("string_not_utf8", key("k", 8).string("\xc3\x28"), "string-not-utf8");
  cases.push_back(C::accepted("string_with_nul", key("k", 8).string(std::string_view("a\0b", 3)).bytes()));
  refused("array_2_to_63", key("k", 9).array(4, k2To63).u32(0), kSecondKey + 13);
  refused("array_2_to_30_of_nothing", key("k", 9).array(4, std::uint64_t{1} << 30).u32(0));
  refused("array_size_wraps", key("k", 9).array(10, (std::uint64_t{1} << 61) + 1).u64(0).u64(0), kSecondKey + 13);
  refused("array_1_too_long", key("k", 9).array(4, 3).u32(0).u32(0));
  refused("array_of_strings_too_long", key("k", 9).array(8, 3).string("").string("x"));
  {
    GgufBytes nested = key("k", 9);
    for (int depth = 0; depth < 10'000; ++depth) nested.array(9, 1);
    refused("arrays_10000_deep", nested.array(0, 1).u8(0), kSecondKey + 13);
  }
  refused("array_of_arrays", key("k", 9).array(9, 1).array(0, 1).u8(0), kSecondKey + 13);
  refused("array_of_type_13", key("k", 9).array(13, 1).u32(0), kSecondKey + 13);
  found("array_empty", key("k", 9).array(8, 0), "empty-array");
  found("array_of_strings_not_utf8", key("k", 9).array(8, 1).string("\xff"), "string-not-utf8");

  refused("alignment_0", key("general.alignment", 4).u32(0), kSecondKey);
  refused("alignment_13", key("general.alignment", 4).u32(13), kSecondKey);
  found("alignment_1", key("general.alignment", 4).u32(1), "alignment-not-32");
  found("alignment_2_to_30", key("general.alignment", 4).u32(std::uint32_t{1} << 30), "alignment-not-32");
  found("alignment_2_to_31", key("general.alignment", 4).u32(std::uint32_t{1} << 31), "alignment-not-32");
  refused("alignment_i32", key("general.alignment", 5).i32(32), kSecondKey);
  refused("alignment_u64", key("general.alignment", 10).u64(32), kSecondKey);
  refused("alignment_array", key("general.alignment", 9).array(4, 1).u32(32), kSecondKey);
  {
    GgufBytes twice;
    twice.preamble(0, 3).text_key("general.architecture", "x").key("general.alignment", 4).u32(32);
    refused("alignment_twice", twice.key("general.alignment", 4).u32(32));
  }
  {
    GgufBytes far;
    far.preamble(1, 2).text_key("general.architecture", "x").key("general.alignment", 4).u32(std::uint32_t{1} << 30);
    cases.push_back(C::refused("alignment_2_to_30_with_data", far.tensor("t", {1}, 0, 0).zeros(64).bytes(), "t"));
  }

  // These are the readers' above ggml's container, which takes any type: a wrong one is read as something else there.
  const auto misread = [&cases](std::string name, const GgufBytes& file) {
    cases.push_back(C::refused(std::move(name), file.bytes()).unlike_its_owner());
  };
  found("architecture_missing", GgufBytes().preamble(0, 1).key("k", 4).u32(0), "architecture-missing");
  misread("architecture_u32", GgufBytes().preamble(0, 1).key("general.architecture", 4).u32(0));
  misread("type_key_u32", key("general.type", 4).u32(0));
  misread("tokens_of_u8", key("tokenizer.ggml.tokens", 9).array(0, 2).u8(1).u8(2));
  misread("tokens_string", key("tokenizer.ggml.tokens", 8).string("a"));
  misread("merges_of_i32", key("tokenizer.ggml.merges", 9).array(5, 1).i32(1));
  misread("scores_of_u8", key("tokenizer.ggml.scores", 9).array(0, 2).u8(1).u8(2));
  misread("token_types_of_u8", key("tokenizer.ggml.token_type", 9).array(0, 2).u8(1).u8(2));
  const auto vocabulary = [](std::string_view other, std::uint32_t element) {
    GgufBytes file;
    file.preamble(0, 3)
        .text_key("general.architecture", "x")
        .key("tokenizer.ggml.tokens", 9)
        .array(8, 2)
        .string("a")
        .string("b");
    return std::move(file.key(other, 9).u32(element));
  };
  misread("scores_1_short", vocabulary("tokenizer.ggml.scores", 6).u64(1).f32(0));
  misread("scores_1_long", vocabulary("tokenizer.ggml.scores", 6).u64(3).f32(0).f32(0).f32(0));
  misread("token_types_1_short", vocabulary("tokenizer.ggml.token_type", 5).u64(1).i32(0));
  cases.push_back(C::accepted("token_types_of_equal_length",
                              vocabulary("tokenizer.ggml.token_type", 5).u64(2).i32(1).i32(1).bytes()));
  misread("split_count_u32", key("split.count", 4).u32(1));
  return cases;
}

inline std::vector<CorruptCase> gguf_tensor_cases() {
  using namespace gguf_cases;
  using C = CorruptCase;
  std::vector<CorruptCase> cases;
  const auto refused = [&cases](std::string name, const GgufBytes& file, std::string tensor = "t",
                                std::optional<std::uint64_t> offset = kSecondKey) {
    cases.push_back(C::refused(std::move(name), file.bytes(), std::move(tensor), offset));
  };
  const auto unsupported = [&cases](std::string name, const GgufBytes& file) {
    cases.push_back(C::unsupported(std::move(name), file.bytes(), "t", kSecondKey));
  };
  const auto found = [&cases](std::string name, const GgufBytes& file, std::string finding) {
    cases.push_back(C::with_finding(std::move(name), file.bytes(), std::move(finding)));
  };
  // One tensor of these dimensions and type, at offset 0, with 32 bytes of data.
  const auto tensor = [](std::initializer_list<std::uint64_t> ne, std::uint32_t type = 0) {
    return std::move(one_tensor().tensor("t", ne, type, 0).pad().data(32));
  };

  found("name_empty", one_tensor().tensor("", {1}, 0, 0).pad().data(32), "tensor-without-name");
  cases.push_back(C::accepted("name_63", one_tensor().tensor(std::string(63, 'n'), {1}, 0, 0).pad().data(32).bytes()));
  refused("name_64", one_tensor().tensor(std::string(64, 'n'), {1}, 0, 0).pad().data(32), "");
  refused("name_2_to_63", one_tensor().u64(k2To63).raw("t").u32(1).u64(1).u32(0).u64(0).pad().data(32), "");
  refused("name_past_the_end", one_tensor().u64(60).raw("t").u32(1).u64(1).u32(0).u64(0), "", std::nullopt);
  found("name_not_utf8", one_tensor().tensor("\xff", {1}, 0, 0).pad().data(32), "tensor-name-not-utf8");
  cases.push_back(C::refused("name_with_nul",
                             one_tensor().tensor(std::string_view("t\0u", 3), {1}, 0, 0).pad().data(32).bytes(),
                             std::string("t\0u", 3), kSecondKey)
                      .unlike_its_owner());
  refused("name_twice", two_tensors().tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).pad().data(64), "t", std::nullopt);

  found("dims_0", tensor({}), "tensor-without-dimensions");
  refused("dims_5", one_tensor().tensor("t", {1, 1, 1, 1, 1}, 0, 0).pad().data(32));
  refused("dims_9", one_tensor().tensor("t", {1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 0).pad().data(32));
  refused("dims_2_to_32_less_1", one_tensor().string("t").u32(0xFFFFFFFFU).u64(1).u32(0).u64(0).pad().data(32));
  found("dim_0", tensor({0, 4}), "empty-tensor");
  refused("dim_negative", tensor({kMax64}));
  refused("dim_2_to_63", tensor({k2To63}));
  // 274177 * 67280421310721 = 2^64 + 1.
  refused("product_wraps_to_1", tensor({274177, 67280421310721}));
  cases.push_back(C::refused("product_wraps_to_0", tensor({std::uint64_t{1} << 62, 4}).bytes(), "t", kSecondKey)
                      .unlike_its_owner());
  // ggml multiplies and pads without looking here, and its loader notices only that the data is not there.
  cases.push_back(
      C::refused("product_hidden_by_a_zero", tensor({std::uint64_t{1} << 62, 4, 0}).bytes(), "t", kSecondKey)
          .unlike_its_owner());
  cases.push_back(
      C::refused("bytes_and_padding_wrap", tensor({(std::uint64_t{1} << 61) - 1}, 28).bytes(), "t", kSecondKey)
          .unlike_its_owner());
  refused("bytes_wrap", tensor({(std::uint64_t{1} << 62) + 1}, 0));
  refused("row_not_of_whole_blocks", tensor({33, 1}, 2));
  refused("row_not_of_whole_superblocks", tensor({128, 2}, 12));
  // ggml takes it for one row; a matrix that lost a dimension looks the same.
  cases.push_back(C::refused("blocks_of_1_dimension", tensor({32}, 2).bytes(), "t", kSecondKey).unlike_its_owner());
  refused("blocks_of_0_dimensions", tensor({}, 2));

  for (const std::uint32_t type : {4U, 5U, 31U, 32U, 33U, 36U, 37U, 38U}) {
    unsupported("type_" + std::to_string(type) + "_retired", tensor({32, 1}, type));
  }
  refused("type_minus_1", tensor({32}, 0xFFFFFFFFU));
  // ggml refuses what it does not know; we carry it.
  cases.push_back(C::with_finding("type_43_unknown", tensor({32, 1}, 43).bytes(), "type-unknown").unlike_its_owner());
  refused("type_unknown_of_no_size", two_tensors().tensor("t", {32}, 43, 0).tensor("u", {8}, 0, 0).pad().data(32));
  refused("type_unknown_past_the_end", two_tensors().tensor("t", {32}, 43, 0).tensor("u", {8}, 0, 96).pad().data(64));
  refused("type_unknown_before_a_wrapping_offset",
          two_tensors().tensor("t", {32}, 43, 0).tensor("u", {8}, 0, kMax64 - 31).pad().data(64));

  refused("offset_unaligned", one_tensor().tensor("t", {1}, 0, 4).pad().data(64));
  refused("offset_of_the_first_leaves_a_gap", one_tensor().tensor("t", {1}, 0, 32).pad().data(64));
  const std::uint64_t second = kSecondKey + 33;
  refused("offset_overlapping", two_tensors().tensor("t", {16}, 0, 0).tensor("u", {8}, 0, 32).pad().data(96), "u",
          second);
  refused("offset_with_a_gap", two_tensors().tensor("t", {8}, 0, 0).tensor("u", {8}, 0, 64).pad().data(96), "u",
          second);
  refused("offset_out_of_order", two_tensors().tensor("t", {8}, 0, 32).tensor("u", {8}, 0, 0).pad().data(64), "t");
  refused("offset_past_the_end", two_tensors().tensor("t", {8}, 0, 0).tensor("u", {8}, 0, 1024).pad().data(64), "u",
          second);
  refused("offset_wraps", two_tensors().tensor("t", {8}, 0, 0).tensor("u", {8}, 0, kMax64 - 31).pad().data(64), "u",
          second);
  // ggml reads headers alone without looking for the data.
  cases.push_back(
      C::refused("data_1_byte_short", one_tensor().tensor("t", {8}, 0, 0).pad().data(31).bytes(), "t", kSecondKey)
          .unlike_its_owner());
  refused("no_padding_before_the_data", one_tensor().tensor("t", {0}, 0, 0), "t", kSecondKey + 33);
  found("final_padding_missing", one_tensor().tensor("t", {1}, 0, 0).pad().data(4), "final-padding-missing");
  found("trailing_bytes", tensor({8}).data(5), "trailing-bytes");
  found("trailing_bytes_without_tensors",
        GgufBytes().preamble(0, 1).text_key("general.architecture", "x").pad().data(5), "trailing-bytes");
  return cases;
}

}  // namespace regauge::testing
