#include "tests/support/big_checkpoint.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace regauge::testing {
namespace {

/// Signs and mantissas at random, exponents of 2^-31 to 2: some of the smallest are lost in F16.
std::vector<char> random_bf16(std::size_t count) {
  std::mt19937_64 random(count);
  std::vector<char> bytes(2 * count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = random();
    const auto exponent = static_cast<std::uint16_t>(96 + (bits >> 8) % 32);
    const auto value = static_cast<std::uint16_t>((bits & 1) << 15 | exponent << 7 | ((bits >> 1) & 0x7F));
    store_le(reinterpret_cast<std::byte*>(bytes.data()) + 2 * i, value);
  }
  return bytes;
}

}  // namespace

void write_big_safetensors(const std::filesystem::path& path, int tensors, std::int64_t rows, std::int64_t columns) {
  const auto each = static_cast<std::uint64_t>(rows * columns * 2);
  std::string header = "{";
  for (int t = 0; t < tensors; ++t) {
    const auto begin = static_cast<std::uint64_t>(t) * each;
    header += std::string(t == 0 ? "" : ",") + "\"layer." + std::to_string(t) +
              ".weight\":{\"dtype\":\"BF16\",\"shape\":[" + std::to_string(rows) + "," + std::to_string(columns) +
              "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(begin + each) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::ofstream out(path, std::ios::binary);
  char length[8];
  store_le<std::uint64_t>(reinterpret_cast<std::byte*>(length), header.size());
  out.write(length, sizeof length);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  // A prime number of values, so that no two rows of a power of two are the same.
  const std::vector<char> values = random_bf16(524'287);
  for (std::uint64_t left = each * static_cast<std::uint64_t>(tensors); left > 0;) {
    const auto piece = std::min<std::uint64_t>(left, values.size());
    out.write(values.data(), static_cast<std::streamsize>(piece));
    left -= piece;
  }
}

}  // namespace regauge::testing
