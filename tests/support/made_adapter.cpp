#include "tests/support/made_adapter.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>

#include "base/half.h"

namespace regauge::testing {

void MadeAdapter::add(const std::string& module, std::int64_t n, std::int64_t k, std::int64_t rank,
                      const std::string& dtype) {
  if (rank == 0) return;
  // Another sequence for each module, in whatever order they are added.
  std::seed_seq seed(module.begin(), module.end());
  std::mt19937 random(seed);
  for (const char letter : {'A', 'B'}) {
    SafetensorsPatch::Array array;
    array.name = "base_model.model." + module + ".lora_" + letter + ".weight";
    array.dtype = dtype;
    array.shape = letter == 'A' ? std::vector{rank, k} : std::vector{n, rank};
    std::vector<float> values(static_cast<std::size_t>(array.shape[0] * array.shape[1]));
    // Multiples of 1/512 below 1/4: every type holds them.
    for (float& value : values) value = (static_cast<float>(random() % 256) - 127.5F) / 512.0F - 1.0F / 1024.0F;
    if (dtype == "BF16") array.bytes = to_bf16(values);
    if (dtype == "F32") array.bytes = to_f32(values);
    if (dtype == "F16") {
      for (const float value : values) {
        const std::uint16_t bits = f32_to_f16(value);
        array.bytes.push_back(static_cast<std::byte>(bits & 0xFF));
        array.bytes.push_back(static_cast<std::byte>(bits >> 8));
      }
    }
    arrays.push_back(std::move(array));
  }
}

const SafetensorsPatch::Array& MadeAdapter::factor(const std::string& module, char factor) const {
  const std::string name = "base_model.model." + module + ".lora_" + factor + ".weight";
  const auto found = std::ranges::find(arrays, name, &SafetensorsPatch::Array::name);
  if (found == arrays.end()) throw std::runtime_error("nothing here is called " + name);
  return *found;
}

std::vector<float> MadeAdapter::merged(const std::string& module, const std::vector<float>& weight) const {
  const auto& a = factor(module, 'A');
  const auto& b = factor(module, 'B');
  const auto rank = static_cast<std::size_t>(a.shape[0]);
  const auto k = static_cast<std::size_t>(a.shape[1]);
  const auto n = static_cast<std::size_t>(b.shape[0]);
  const std::vector<float> in = numbers_of(a);
  const std::vector<float> out = numbers_of(b);
  std::vector<float> sums(weight.size());
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t column = 0; column < k; ++column) {
      double sum = 0;
      for (std::size_t j = 0; j < rank; ++j)
        sum += static_cast<double>(out[row * rank + j]) * static_cast<double>(in[j * k + column]);
      sums[row * k + column] = static_cast<float>(sum + static_cast<double>(weight[row * k + column]));
    }
  }
  return sums;
}

void MadeAdapter::write(const std::filesystem::path& folder) const {
  write_safetensors(folder / "adapter_model.safetensors", arrays);
  nlohmann::ordered_json config{{"peft_type", "LORA"}, {"r", 8}, {"lora_alpha", 8}};
  nlohmann::ordered_json ranks = nlohmann::ordered_json::object();
  constexpr std::size_t kPrefix = 17;  // base_model.model.
  for (const auto& array : arrays) {
    const std::string suffix = ".lora_A.weight";
    if (!array.name.ends_with(suffix) || array.shape[0] == 8) continue;
    ranks[array.name.substr(kPrefix, array.name.size() - kPrefix - suffix.size())] = array.shape[0];
  }
  config["rank_pattern"] = config["alpha_pattern"] = ranks;
  write_text(folder / "adapter_config.json", config.dump(2));
}

MadeAdapter adapter_of_tiny_moe(const std::vector<std::int64_t>& ranks) {
  MadeAdapter adapter;
  const std::string layers = "model.language_model.layers.";
  for (const char* layer : {"0", "3"}) {
    for (std::size_t expert = 0; expert < ranks.size(); ++expert) {
      const std::string module = layers + layer + ".mlp.experts." + std::to_string(expert) + ".";
      adapter.add(module + "gate_proj", 32, 64, ranks[expert]);
      adapter.add(module + "up_proj", 32, 64, ranks[expert]);
      adapter.add(module + "down_proj", 64, 32, ranks[expert]);
    }
  }
  adapter.add(layers + "1.mlp.shared_expert.up_proj", 64, 64, 8);
  adapter.add(layers + "0.linear_attn.out_proj", 64, 128, 8);
  adapter.add(layers + "3.self_attn.q_proj", 256, 64, 8);
  return adapter;
}

std::vector<float> numbers_of(const SafetensorsPatch::Array& array) {
  if (array.dtype == "BF16") return from_bf16(array.bytes);
  if (array.dtype == "F32") return from_f32(array.bytes);
  std::vector<float> values;
  for (std::size_t i = 0; i < array.bytes.size(); i += 2) {
    const auto bits = static_cast<std::uint16_t>(std::to_integer<unsigned>(array.bytes[i]) |
                                                 std::to_integer<unsigned>(array.bytes[i + 1]) << 8);
    values.push_back(f16_to_f32(bits));
  }
  return values;
}

}  // namespace regauge::testing
