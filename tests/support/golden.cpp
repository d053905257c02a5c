#include "tests/support/golden.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace regauge::testing {

std::optional<std::filesystem::path> find_full_golden(const std::string& relative) {
  const char* root = std::getenv("REGAUGE_GOLDEN");
  if (root == nullptr || *root == '\0') return std::nullopt;
  const auto path = std::filesystem::path(root) / relative;
  return std::filesystem::exists(path) ? std::optional(path) : std::nullopt;
}

std::optional<std::filesystem::path> find_golden(const std::string& relative) {
  if (const auto full = find_full_golden(relative)) return full;
  const auto committed = std::filesystem::path(REGAUGE_SOURCE_DIR) / "tests/golden/data" / relative;
  if (std::filesystem::exists(committed)) return committed;
  return std::nullopt;
}

std::filesystem::path sample_path(const std::string& relative) {
  return std::filesystem::path(REGAUGE_SOURCE_DIR) / "samples" / relative;
}

std::vector<std::byte> read_whole_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path.string());
  const std::string text(std::istreambuf_iterator<char>(in), {});
  std::vector<std::byte> bytes(text.size());
  std::ranges::copy(std::as_bytes(std::span(text)), bytes.begin());
  return bytes;
}

void write_whole_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

GoldenFile::GoldenFile(const std::filesystem::path& path) : bytes_(read_whole_file(path)) {
  std::uint64_t header = 0;
  std::memcpy(&header, bytes_.data(), sizeof header);
  const auto* text = reinterpret_cast<const char*>(bytes_.data()) + 8;
  const auto json = nlohmann::json::parse(text, text + header);
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      if (entry.is_object()) metadata_ = entry.get<std::map<std::string, std::string>>();
      continue;
    }
    const auto begin = entry["data_offsets"][0].get<std::size_t>();
    const auto end = entry["data_offsets"][1].get<std::size_t>();
    entries_[name] = {entry["dtype"], entry["shape"].get<std::vector<std::int64_t>>(),
                      std::span(bytes_).subspan(8 + header + begin, end - begin)};
  }
}

const GoldenFile::Entry& GoldenFile::operator[](const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw std::runtime_error("golden file has no tensor " + name);
  return found->second;
}

std::size_t count_bit_differences(std::span<const float> expected, std::span<const float> actual, bool strict_nan) {
  if (expected.size() != actual.size()) {
    ADD_FAILURE() << "sizes differ: " << expected.size() << " and " << actual.size();
    return expected.size() + 1;
  }
  std::size_t differences = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto e = std::bit_cast<std::uint32_t>(expected[i]);
    const auto a = std::bit_cast<std::uint32_t>(actual[i]);
    if (e == a) continue;
    if (!strict_nan && std::isnan(expected[i]) && std::isnan(actual[i])) continue;
    if (differences++ == 0) {
      ADD_FAILURE() << "first difference at " << i << ": expected " << expected[i] << " got " << actual[i] << std::hex
                    << " (0x" << e << ", 0x" << a << ")";
    }
  }
  return differences;
}

ScratchDir::ScratchDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "regauge-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a scratch folder");
  path_ = pattern;
}

ScratchDir::~ScratchDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace regauge::testing
