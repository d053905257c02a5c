#include <cstdio>
#include <string>

#include "base/error.h"
#include "base/half.h"
#include "ir/ggml_type.h"

// Uses something of two rooms that is not inline, so that a missing object file or dependency fails to link.
int main() {
  const regauge::GgmlType* type = regauge::find_ggml_type("Q4_K");
  if (type == nullptr || type->block_elements != 256) return 1;
  if (regauge::f16_to_f32(0x3C00) != 1.0F) return 1;
  try {
    throw regauge::Error(regauge::ErrorCode::malformed, "{} bytes left", 3).at("model.gguf");
  } catch (const regauge::Error& error) {
    if (std::string(error.what()).find("model.gguf") != 0) return 1;
  }
  std::puts("consumer: regauge works");
  return 0;
}
