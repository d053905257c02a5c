#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/patch.h"

namespace regauge::testing {

/// A published mixture of experts with its heads and experts in full number and everything else narrow.
struct MoeSizes {
  std::string name;
  int layers = 2;  ///< every second has full attention; one MTP layer follows
  std::int64_t heads = 16;
  std::int64_t kv_heads = 2;
  std::int64_t key_heads = 16;
  std::int64_t value_heads = 32;
  std::int64_t experts = 256;
  std::int64_t experts_used = 8;
  std::int64_t hidden = 64;
  std::int64_t head_dim = 32;
  std::int64_t linear_dim = 32;  ///< of key and value heads
  std::int64_t intermediate = 32;
  std::int64_t shared = 64;
  std::int64_t vocab = 320;
  bool tied = false;
};

std::ostream& operator<<(std::ostream& out, const MoeSizes& sizes);

/// Qwen/Qwen3.5-35B-A3B, -122B-A10B and -397B-A17B by their config.json.
std::vector<MoeSizes> published_mixtures();

/// How a test stores the experts.
enum class MoeStorage {
  official,    ///< BF16, those of the decoder fused, those of MTP one by one, as Qwen3.5's BF16 checkpoints are
  fused,       ///< BF16, all fused, as Qwen3.6's are
  per_expert,  ///< BF16, one by one, as derivatives saved again are
  gptq,        ///< all linear modules but routers GPTQ v1, 4 bits, groups of 32, every expert a module
};

/// A 4-bit module as the test made it up: what every format has to give back.
struct Codes {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<std::uint8_t> codes;    ///< [rows, columns]
  std::vector<std::uint16_t> scales;  ///< [rows, columns / 32], f16
};

struct MoeModel {
  nlohmann::ordered_json config;
  std::vector<SafetensorsPatch::Array> arrays;
  std::map<std::string, Codes> modules;  ///< of a GPTQ checkpoint, by module name

  const SafetensorsPatch::Array& array(const std::string& name) const;
};

/// Made without the library under test; the same bytes for the same arguments. Norms lie around 0 and A_log is F32, as
/// published.
MoeModel make_moe(const MoeSizes& sizes, MoeStorage storage);

/// Writes config.json and one file of arrays below `folder`, which must exist.
void write_moe(const std::filesystem::path& folder, const MoeModel& model);

/// The bytes of a Q4_0 stack of such modules, in order: per block of 32 columns the scale, then codes j and j + 16 in byte
/// j. Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q4_0_ref.
Bytes q4_0_stack(const std::vector<const Codes*>& modules);

}  // namespace regauge::testing
