#pragma once

#include <limits>
#include <string>
#include <vector>

#include "tests/support/corrupt_case.h"

// Broken and odd safetensors files. Each is whole but for the one thing its name says.
namespace regauge::testing {
namespace safetensors_cases {

/// A file with one entry "t" of these fields, written as they are.
inline Bytes one(std::string_view dtype, std::string_view shape, std::string_view offsets, std::size_t data_bytes) {
  return safetensors_bytes("{" + safetensors_entry("t", dtype, shape, offsets) + "}", data_bytes);
}

inline Bytes two(std::string_view first_offsets, std::string_view second_offsets, std::size_t data_bytes) {
  return safetensors_bytes("{" + safetensors_entry("t", "U8", "[4]", first_offsets) + "," +
                               safetensors_entry("u", "U8", "[4]", second_offsets) + "}",
                           data_bytes);
}

inline Bytes header(std::string_view text, std::size_t data_bytes = 0) { return safetensors_bytes(text, data_bytes); }

inline Bytes raw(std::string_view text) { return GgufBytes().raw(text).bytes(); }

}  // namespace safetensors_cases

inline std::vector<CorruptCase> safetensors_header_cases() {
  using namespace safetensors_cases;
  using C = CorruptCase;
  constexpr std::uint64_t kLimit = 100'000'000;
  std::string deep = "{\"t\":";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  return {
      C::unsupported("empty", {}, {}, 0),
      C::refused("seven_bytes", raw(std::string_view("\2\0\0\0\0\0\0", 7)), {}, 0),
      C::refused("length_only", raw(std::string_view("\2\0\0\0\0\0\0\0", 8)), {}, 0),
      C::unsupported("lfs_pointer", raw("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), {}, 0),
      C::unsupported("html_page", raw("<!DOCTYPE html><html></html>"), {}, 0),
      C::unsupported("zip_archive", raw(std::string_view("PK\x03\x04\0\0\0\0\0\0\0\0", 12)), {}, 0),
      C::refused("length_0", safetensors_bytes("", 0), {}, 8),
      C::refused("length_0_before_a_header", safetensors_bytes("{}", 0, 0), {}, 8),
      C::refused("length_past_the_end", safetensors_bytes("{}", 0, 3), {}, 0),
      C::refused("length_1_short", safetensors_bytes("{}", 0, 1)),
      C::refused("length_above_the_limit", safetensors_bytes("{}", 0, kLimit + 1), {}, 0),
      C::refused("length_2_to_64_less_1", safetensors_bytes("{}", 0, std::numeric_limits<std::uint64_t>::max()), {}, 0),
      C::refused("length_that_wraps", safetensors_bytes("{}", 0, std::numeric_limits<std::uint64_t>::max() - 7), {}, 0),
      C::accepted("nothing_in_it", header("{}")),
      C::accepted("padded_with_spaces", header("{}      ")),
      C::refused("not_json", header("{what}")),
      C::refused("array", header("[]"), {}, 8),
      C::refused("number", header("1"), {}, 8),
      C::refused("leading_space", header(" {}"), {}, 8),
      C::refused("byte_order_mark", header("\xef\xbb\xbf{}"), {}, 8),
      C::refused("trailing_junk", header("{}x")),
      C::refused("padded_with_zeros", header(std::string_view("{}\0\0", 4))),
      C::refused("not_utf8", header("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}")),
      C::refused("unfinished", header("{\"t\":")),
      C::refused("nested_100000_deep", header(deep)),
      C::refused("duplicate_name", header("{" + safetensors_entry("t", "U8", "[1]", "[0,1]") + "," +
                                              safetensors_entry("t", "U8", "[1]", "[0,1]") + "}",
                                          1)),
      C::refused("duplicate_field", header(R"({"t":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1)),
      C::refused("nan", header(R"({"t":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}})", 1)),
      C::refused("metadata_number", header(R"({"__metadata__":{"a":1}})"), "__metadata__"),
      C::refused("metadata_object", header(R"({"__metadata__":{"a":{}}})"), "__metadata__"),
      C::refused("metadata_value_null", header(R"({"__metadata__":{"a":null}})"), "__metadata__"),
      C::refused("metadata_array", header(R"({"__metadata__":[]})"), "__metadata__"),
      C::refused("metadata_string", header(R"({"__metadata__":"pt"})"), "__metadata__"),
      C::with_finding("metadata_null", header(R"({"__metadata__":null})"), "null-metadata"),
      C::accepted("metadata_empty", header(R"({"__metadata__":{}})")),
      C::refused("name_with_control_character",
                 header(R"({"a\nb":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "a\nb", 9),
      C::refused("name_with_nul", header(R"({"a\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
                 std::string("a\0", 2)),
      C::refused("name_that_climbs", header("{" + safetensors_entry("../../t", "U8", "[1]", "[0,1]") + "}", 1),
                 "../../t", 9),
      C::refused("name_that_is_absolute", header("{" + safetensors_entry("/etc/t", "U8", "[1]", "[0,1]") + "}", 1),
                 "/etc/t", 9),
      C::accepted("name_with_a_slash",
                  header("{" + safetensors_entry("encoder/layer/t", "U8", "[1]", "[0,1]") + "}", 1)),
      C::accepted("name_empty", header("{" + safetensors_entry("", "U8", "[1]", "[0,1]") + "}", 1)),
  };
}

inline std::vector<CorruptCase> safetensors_entry_cases() {
  using namespace safetensors_cases;
  using C = CorruptCase;
  const auto refused = [](std::string name, Bytes bytes, std::string tensor = "t") {
    return C::refused(std::move(name), std::move(bytes), std::move(tensor));
  };
  std::string dims = "[1";
  for (int i = 1; i < 10'000; ++i) dims += ",1";
  dims += ']';
  return {
      refused("offsets_negative", one("U8", "[4]", "[-4,0]", 4)),
      refused("offsets_float", one("U8", "[4]", "[0,4.0]", 4)),
      refused("offsets_text", one("U8", "[4]", R"([0,"4"])", 4)),
      refused("offsets_of_3", one("U8", "[4]", "[0,4,4]", 4)),
      refused("offsets_of_1", one("U8", "[4]", "[0]", 4)),
      refused("offsets_object", one("U8", "[4]", "{}", 4)),
      refused("offsets_reversed", one("U8", "[4]", "[4,0]", 4)),
      refused("offsets_past_the_end", one("U8", "[5]", "[0,5]", 4)),
      refused("offsets_2_to_63", one("U8", "[4]", "[0,9223372036854775808]", 4)),
      refused("offsets_2_to_64", one("U8", "[4]", "[0,18446744073709551616]", 4)),
      refused("offsets_2_to_64_less_1", one("U8", "[4]", "[18446744073709551612,18446744073709551615]", 4)),
      refused("offsets_overlapping", two("[0,4]", "[2,6]", 6), "u"),
      refused("offsets_equal", two("[0,4]", "[0,4]", 4), "u"),
      refused("offsets_with_a_hole", two("[0,4]", "[5,9]", 9), "u"),
      refused("offsets_after_a_hole", one("U8", "[4]", "[4,8]", 8)),
      C::refused("trailing_bytes", one("U8", "[4]", "[0,4]", 5), {}, 8 + 53 + 4),
      refused("data_1_byte_short", one("U8", "[4]", "[0,4]", 3)),
      refused("shape_negative", one("U8", "[-4]", "[0,4]", 4)),
      refused("shape_minus_zero", one("U8", "[-0]", "[0,0]", 0)),
      refused("shape_float", one("U8", "[4.0]", "[0,4]", 4)),
      refused("shape_number", one("U8", "4", "[0,4]", 4)),
      refused("shape_null", one("U8", "null", "[0,4]", 4)),
      refused("shape_of_10000", one("U8", dims, "[0,1]", 1)),
      refused("shape_2_to_63", one("U8", "[9223372036854775808]", "[0,4]", 4)),
      // 274177 * 67280421310721 = 2^64 + 1.
      refused("shape_product_wraps_to_1", one("U8", "[274177,67280421310721]", "[0,1]", 1)),
      refused("shape_product_wraps_to_0", one("U8", "[4294967296,4294967296]", "[0,0]", 0)),
      refused("shape_product_hidden_by_a_zero", one("U8", "[4611686018427387904,4,0]", "[0,0]", 0)),
      refused("shape_bytes_wrap", one("F64", "[2305843009213693952]", "[0,0]", 0)),
      refused("shape_bits_wrap", one("U8", "[4611686018427387904]", "[0,4]", 4)),
      C::unsupported("dtype_unknown", one("F128", "[4]", "[0,4]", 4), "t", 9),
      C::unsupported("dtype_in_lower_case", one("u8", "[4]", "[0,4]", 4), "t", 9),
      refused("dtype_number", header(R"({"t":{"dtype":8,"shape":[4],"data_offsets":[0,4]}})", 4)),
      refused("range_too_short", one("F32", "[4]", "[0,12]", 12)),
      refused("range_too_long", one("F32", "[4]", "[0,20]", 20)),
      refused("nibbles_that_end_inside_a_byte", one("F4", "[3]", "[0,2]", 2)),
      refused("field_missing_dtype", header(R"({"t":{"shape":[4],"data_offsets":[0,4]}})", 4)),
      refused("field_missing_shape", header(R"({"t":{"dtype":"U8","data_offsets":[0,4]}})", 4)),
      refused("field_missing_offsets", header(R"({"t":{"dtype":"U8","shape":[4]}})", 4)),
      refused("entry_number", header(R"({"t":1})", 4)),
      refused("entry_null", header(R"({"t":null})", 4)),
      refused("entry_array", header(R"({"t":["U8",[4],[0,4]]})", 4)),
      C::with_finding("no_elements", one("F32", "[0]", "[0,0]", 0), "empty-tensor"),
      C::with_finding("no_elements_between_others",
                      header("{" + safetensors_entry("t", "U8", "[4]", "[0,4]") + "," +
                                 safetensors_entry("e", "U8", "[0]", "[4,4]") + "," +
                                 safetensors_entry("u", "U8", "[4]", "[4,8]") + "}",
                             8),
                      "empty-tensor"),
      C::accepted("scalar", one("F32", "[]", "[0,4]", 4)),
      C::accepted("out_of_order_in_the_header", two("[4,8]", "[0,4]", 8)),
  };
}

}  // namespace regauge::testing
