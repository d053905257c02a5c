#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/encode/mlx.h"
#include "convert/fidelity.h"
#include "ir/dtype.h"

namespace regauge {

class Importance;
struct Recipe;

/// How a GPTQ directory lays its modules out.
enum class GptqLayout : std::uint8_t {
  v1,              ///< zero points stored minus one: what everything loads
  v2,              ///< zero points as they are
  planar,          ///< bit planes: 2 to 8 bits
  marlin,          ///< serialised Marlin: B and s
  marlin_runtime,  ///< the arrays that a GPU kernel holds; for tests and other software, no loader reads it
};

/// What becomes of low-rank factors (EoRA, LoRA).
enum class EoraPolicy : std::uint8_t {
  keep,   ///< in the target's own form: an adapter of its own, or beside the weights
  merge,  ///< W + B * A in place of W; values that no encoding holds exactly
  drop,   ///< left out, with what that costs
};

std::string_view name(GptqLayout layout);
std::optional<GptqLayout> gptq_layout_from_name(std::string_view name);

/// What the user permits and asks for. Loss is never assumed: everything that costs something is off by default.
struct ConvertOptions {
  std::string format;          ///< target format's name: "gguf" or "safetensors"
  std::optional<DType> dtype;  ///< type of tensors that are dense in the source; absent: as they are
  std::optional<DType>
      dense;                 ///< decode quantized tensors into this type, dense ones too unless `dtype` says otherwise
  bool allow_dense = false;  ///< where no encoding of the target holds the values, f32 may
  bool allow_rounded = false;            ///< codes are kept, scales and offsets may be rounded
  bool allow_requantized = false;        ///< where nothing holds the values, codes of one bit more may come near
  std::shared_ptr<const Recipe> recipe;  ///< what tensors become; null: the smallest encoding that is exact
  MlxRule mlx_rule = MlxRule::cpu;       ///< by which MLX modules are quantized
  std::shared_ptr<const Importance> importance;  ///< of weights, for GGUF's quantizers; null: all alike
  GptqLayout layout = GptqLayout::v1;
  std::optional<Fidelity> require;  ///< the whole run must be at least this good
  bool fold = true;                 ///< reorder MLPs so that act-order of down projections goes away
  bool as_stored = false;           ///< in the order and convention of the names' own checkpoint, which is added to
  bool separate_mtp = false;        ///< of a GGUF: the MTP block in a file of its own
  bool omit_model = false;          ///< of a GGUF: only the files beside the model's own
  bool drop_vision = false;
  bool drop_mtp = false;
  EoraPolicy eora = EoraPolicy::keep;
  std::vector<std::string> merge_only;  ///< with merge: parts of canonical names or globs; others keep their factors
  bool drop_foreign = false;            ///< tensors that the architecture does not know
  std::optional<std::filesystem::path> assets;  ///< take config, tokenizer and other files from this directory
  bool directory = false;                       ///< safetensors: a directory of shards instead of one file
  std::uint64_t shard_bytes = 0;                ///< most data bytes of one file; 0: one file
  std::string model_name;                       ///< general.name; empty: from the source's path
  bool link_kept = false;                       ///< hard links in place of copies of files that are taken over
  bool overwrite = false;
  bool replace_partial = false;
  int threads = 0;               ///< 0: as many as the machine has
  std::uint64_t max_memory = 0;  ///< most anonymous memory of the process in bytes; 0: at most 64 MiB a thread
  bool verify = false;           ///< read every band back and hold it against the source
  bool digests = false;          ///< digest what is stored while it is written
  bool journal = false;          ///< keep a record of finished bands, and them, when the run ends early
  bool resume = false;           ///< go on with what a run with a journal left; implies `journal`
};

/// What a running conversion tells, from any thread but never from two at once.
struct Progress {
  std::uint64_t bytes_done = 0;     ///< of bytes_total, skipped ones included
  std::uint64_t bytes_skipped = 0;  ///< found finished: an earlier run had made them
  std::uint64_t bytes_total = 0;
  std::string_view tensor;
};

using ProgressFn = std::function<void(const Progress&)>;

}  // namespace regauge
