// Any bytes either parse or throw Error{malformed} with an offset inside them; what parses means the same after
// being written out and parsed again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  regauge::Json parsed;
  try {
    parsed = regauge::parse_json(text, "input");
  } catch (const regauge::Error& error) {
    if (error.code() != regauge::ErrorCode::malformed) std::abort();
    if (!error.byte_offset() || *error.byte_offset() > size) std::abort();
    return 0;
  }
  if (regauge::parse_json(parsed.dump(), "output") != parsed) std::abort();
  return 0;
}
