#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/limits.h"

namespace regauge {

/// JSON that keeps the order of keys. An object is a vector of pairs: walk large ones, because each lookup is linear.
using Json = nlohmann::ordered_json;

/// What an object with the same key twice gets.
enum class JsonDuplicates : std::uint8_t {
  refuse,     ///< Error{malformed}
  keep_last,  ///< the last value, in the place of the first, as Python's json module reads it
};

struct JsonLimits {
  std::uint64_t max_bytes = kMaxConfigBytes;
  std::size_t max_depth = kMaxJsonDepth;
  std::uint64_t max_values = kMaxJsonValues;  ///< bounds memory: "[0,0,0," makes 16 bytes out of two
  JsonDuplicates duplicates = JsonDuplicates::refuse;
};

/// Parses one document by RFC 8259 and nothing beyond it: no byte order mark, comment, NaN, trailing comma or trailing
/// byte, strings in valid UTF-8. Whole numbers that fit are kept as 64-bit integers, signed or unsigned; 1.0 stays a
/// float; a number beyond the range of f64 is refused. Runs in O(n log n) and in bounded stack whatever the input.
/// Every fault is Error{malformed} with the byte offset in `text` and `source` as its file. With keep_last, `repeated`
/// (when given) collects the paths of the keys that occurred again, in file order.
Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {},
                std::vector<std::string>* repeated = nullptr);

/// The value of `key`, or null when it is absent or JSON null. Error{malformed} when `object` is not an object.
const Json* find(const Json& object, std::string_view key);

/// find() along a dotted path ("text_config.rope_parameters.rope_theta"): null as soon as a step is absent or JSON null,
/// Error{malformed} when a step is there and is not an object.
const Json* find_path(const Json& object, std::string_view path);

// Typed reads of one key, which may itself hold dots. Absent or JSON null is nothing; another type is Error{malformed} that
// names the key.

/// A whole number: an integer that fits, or a float with a whole value up to 2^53 in magnitude (some writers turn
/// 55562855904 into 55562855904.0).
std::optional<std::int64_t> get_int(const Json& object, std::string_view key);
/// Any number.
std::optional<double> get_double(const Json& object, std::string_view key);
std::optional<bool> get_bool(const Json& object, std::string_view key);
std::optional<std::string> get_string(const Json& object, std::string_view key);
/// The array itself, owned by `object`; null when absent.
const Json* get_array(const Json& object, std::string_view key);
/// The object itself, owned by `object`; null when absent.
const Json* get_object(const Json& object, std::string_view key);

}  // namespace regauge
