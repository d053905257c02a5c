// One file of any format: what it claims is checked before it is believed, and what opens decodes.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "tests/fuzz/open_and_decode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path path = regauge::fuzz::scratch_path("model.safetensors");
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  regauge::fuzz::open_and_decode(path);
  return 0;
}
