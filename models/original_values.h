#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace regauge {

// A convention may lose bits: 1 + w in f32 has no room for the last bits of a tiny w. A GGUF file that is to give them
// back carries the source's array in two keys, which loaders ignore: regauge.original.<hf name>, an array of u8 with the
// stored bytes (little endian, in the source's own shape and row order), and regauge.original.<hf name>.type, a string
// with the element type as safetensors spells it ("BF16").

/// One of those keys, taken apart.
struct OriginalKey {
  std::string name;      ///< canonical Hugging Face name of the weight
  bool is_type = false;  ///< the key of the element type, not that of the bytes

  bool operator==(const OriginalKey&) const = default;
};

/// The key that holds the stored bytes of `hf_name`. Throws Error{invalid} for a name that parse_original_key() would
/// not give back: an empty one, or one that ends in ".type".
std::string original_values_key(std::string_view hf_name);
/// The key that holds their element type. Throws as above.
std::string original_type_key(std::string_view hf_name);

/// Takes such a key apart; nothing for any other key.
std::optional<OriginalKey> parse_original_key(std::string_view key);

}  // namespace regauge
