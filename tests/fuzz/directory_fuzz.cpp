// A checkpoint directory: config.json up to the first zero byte of the input, one safetensors file from there on.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "tests/fuzz/open_and_decode.h"

namespace {

void write(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path config = regauge::fuzz::scratch_path("config.json");
  static const std::filesystem::path model = regauge::fuzz::scratch_path("model.safetensors");
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto zero = bytes.find('\0');
  if (zero == std::string_view::npos) return 0;
  write(config, bytes.substr(0, zero));
  write(model, bytes.substr(zero + 1));
  regauge::fuzz::open_and_decode(config.parent_path());
  return 0;
}
