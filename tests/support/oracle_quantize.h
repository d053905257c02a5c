#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace regauge::testing {

/// What llama-quantize's flags set. Types are ggml's ids.
struct OracleQuantizeOptions {
  /// Squares of what went through a weight: ne0 values, for stacked experts ne0 of each in turn.
  struct Importance {
    std::string tensor;
    std::vector<float> values;
  };
  struct Key {
    std::string name;
    std::variant<std::int64_t, double, bool, std::string> value;
  };

  int threads = 1;
  bool allow_requantize = false;
  bool quantize_output_tensor = true;  ///< false: --leave-output-tensor
  bool only_copy = false;
  bool pure = false;
  bool keep_split = false;
  std::optional<std::uint32_t> output_tensor_type{};
  std::optional<std::uint32_t> token_embedding_type{};
  std::vector<std::pair<std::string, std::uint32_t>> tensor_types{};  ///< --tensor-type, as lower-case patterns
  std::vector<Importance> importance{};
  std::vector<Key> keys{};  ///< --override-kv, and where llama-quantize puts its quantize.imatrix.* keys
};

/// llama.h's number of a name of llama-quantize ("Q4_K_M"); throws std::invalid_argument for another name.
std::uint32_t oracle_file_type(const std::string& name);

/// Runs llama_model_quantize of libllama (npm package @node-llama-cpp/linux-x64). False when it refuses; `said` then ends
/// with its reason. Throws when the library is not installed or is not the one known, so call REGAUGE_ORACLE_OR_SKIP
/// first. It aborts the process where llama.cpp asserts. One call at a time.
bool oracle_quantize(const std::filesystem::path& in, const std::filesystem::path& out, std::uint32_t file_type,
                     const OracleQuantizeOptions& options = {}, std::string* said = nullptr);

}  // namespace regauge::testing
