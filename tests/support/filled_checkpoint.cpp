#include "tests/support/filled_checkpoint.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/half.h"

namespace regauge::testing {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::uint32_t>;

// Data repeats after this many words. It is a prime, so no two rows of a matrix are the same.
constexpr std::size_t kPeriod = 1'048'573;

template <typename Next>
Words pattern(Next next) {
  Words words(kPeriod);
  for (std::uint32_t& word : words) word = next();
  return words;
}

// The generator's sequence is the standard's. Every kind of data has a seed of its own: scales and biases out of the same
// numbers would be multiples of each other.
Words random_words(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  return pattern([&] { return static_cast<std::uint32_t>(random()); });
}

/// Pairs of 16-bit floats of random mantissa and sign and 8 exponents up to 2^`top`.
Words random_floats(std::uint64_t seed, int top, bool bf16, bool positive) {
  std::mt19937_64 random(seed);
  const auto one = [&]() -> std::uint32_t {
    const std::uint64_t bits = random();
    const auto exponent = static_cast<std::uint32_t>((bf16 ? 127 : 15) + top - static_cast<int>((bits >> 20) % 8));
    const auto sign = positive ? 0U : static_cast<std::uint32_t>(bits >> 40 & 1) << 15;
    return sign | (bf16 ? exponent << 7 | (bits & 0x7F) : exponent << 10 | (bits & 0x3FF));
  };
  return pattern([&] {
    const std::uint32_t low = one();
    return low | one() << 16;
  });
}

class Filler {
 public:
  explicit Filler(const ModelShapes& shapes) : shapes_(shapes) {}

  void fill(const std::filesystem::path& file) const {
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    std::uint64_t length = 0;
    out.read(reinterpret_cast<char*>(&length), sizeof length);
    std::string text(length, '\0');
    out.read(text.data(), static_cast<std::streamsize>(length));
    const Json header = Json::parse(text);
    out.seekp(static_cast<std::streamoff>(sizeof length + length));  // arrays follow in the header's order
    for (const auto& item : header.items()) {
      if (item.key() == "__metadata__") continue;
      const auto& offsets = item.value()["data_offsets"];
      write(out, array(item.key()), offsets[1].get<std::uint64_t>() - offsets[0].get<std::uint64_t>());
    }
    if (!out) throw std::runtime_error("cannot write " + file.string());
  }

 private:
  const ShapedArray& array(const std::string& name) const {
    return *std::ranges::find(shapes_.arrays, name, &ShapedArray::name);
  }

  void write(std::fstream& out, const ShapedArray& array, std::uint64_t bytes) const {
    if (array.name.ends_with(".g_idx")) return write_groups(out, array);
    if (array.first_row != 0) return write_pattern(out, Words(kPeriod, array.first_row), bytes);
    if (array.dtype == "I32" || array.dtype == "U32") return write_pattern(out, codes_, bytes);
    if (array.dtype == "F16") return write_pattern(out, f16_scales_, bytes);
    if (array.dtype == "F32") return write_pattern(out, f32_, bytes);
    return write_pattern(out, array.name.ends_with(".scales") ? bf16_scales_ : weights_, bytes);
  }

  void write_groups(std::fstream& out, const ShapedArray& index) const {
    const std::string module = index.name.substr(0, index.name.size() - 6);
    const std::int64_t groups = array(module + ".scales").shape.front();
    Words words(static_cast<std::size_t>(index.shape.front()));
    const auto width = (words.size() - 1) / static_cast<std::size_t>(groups) + 1;
    for (std::size_t k = 0; k < words.size(); ++k) words[k] = static_cast<std::uint32_t>(k / width);
    write_pattern(out, words, words.size() * sizeof words[0]);
  }

  static void write_pattern(std::fstream& out, const Words& words, std::uint64_t bytes) {
    const std::uint64_t whole = words.size() * sizeof words[0];
    for (; bytes > 0; bytes -= std::min(bytes, whole)) {
      out.write(reinterpret_cast<const char*>(words.data()), static_cast<std::streamsize>(std::min(bytes, whole)));
    }
  }

  const ModelShapes& shapes_;
  Words codes_ = random_words(1);
  Words weights_ = random_floats(2, -5, true, false);
  Words bf16_scales_ = random_floats(3, -8, true, true);
  Words f16_scales_ = random_floats(4, -7, false, true);
  Words f32_ = pattern([] { return 0x3F800000U; });  // ones: decays and a norm
};

}  // namespace

void write_filled_checkpoint(const std::filesystem::path& folder, const ModelShapes& shapes, int shards) {
  write_sparse_checkpoint(folder, shapes, shards);
  const Filler filler(shapes);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") filler.fill(entry.path());
  }
}

ModelShapes make_slice_of_27b(ShapesRecipe recipe, std::uint64_t bytes) {
  recipe.vocab = 16384;
  recipe.vision = false;
  recipe.mtp = false;
  for (recipe.layers = 4;; ++recipe.layers) {
    ModelShapes shapes = make_qwen35_27b(recipe);
    if (shapes.bytes() >= bytes || recipe.layers == 64) return shapes;
  }
}

}  // namespace regauge::testing
