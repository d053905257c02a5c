#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/checkpoint.h"
#include "ir/slot.h"
#include "ir/view.h"
#include "models/hf_files.h"

namespace regauge {

/// One of the files that a conversion may write.
enum class OutputKind : std::uint8_t { model, mmproj, mtp, adapter };

std::string_view name(OutputKind kind);

/// Where a dialect keeps a slot: the array's name and shape, the matrix it is seen as, and the slot's place in it.
struct Placement {
  std::string array;
  Shape shape;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  Piece piece;
};

/// How a dialect stores experts, where it has a choice.
enum class ExpertLayout : std::uint8_t { fused, per_expert };

/// How many of what an attention layer and an MLP have.
struct HeadCounts {
  std::int64_t query = 0;
  std::int64_t key_value = 0;
  std::int64_t experts = 0;
};

/// A weight that a model of this size must have.
struct ExpectedSlot {
  Slot slot;
  Shape shape;                ///< canonical: as Hugging Face stores it, flattened to a matrix or vector
  DType usual = DType::bf16;  ///< as the official checkpoint stores it
  bool optional = false;      ///< vision, MTP: absent as a whole without being a fault
};

/// What has to be known beside the model's own configuration to write the keys of a GGUF file.
struct GgufFacts {
  std::string name;             ///< general.name
  std::int64_t parameters = 0;  ///< of the tensors in this file, for general.size_label; 0 leaves the key out
  std::uint32_t file_type = 0;  ///< general.file_type
  int mtp_layers = 0;           ///< counted from the tensors that are written, never from the configuration
};

/// What we know of one architecture, bound to one checkpoint: its sizes, its names and conventions in every dialect.
/// Canonical means Hugging Face's: names, row order and raw values. Immutable; any thread may ask.
class Architecture {
 public:
  virtual ~Architecture() = default;

  /// "qwen3_5" or "qwen3_5_moe".
  virtual std::string_view family() const = 0;
  /// What people call it: "Qwen3.5 27B", or "Qwen3.5 dense" when the sizes are of no published model.
  virtual std::string label() const = 0;
  virtual int layers() const = 0;
  /// The configuration announces this many MTP layers, whether or not they are there.
  virtual int announced_mtp_layers() const = 0;
  virtual HeadCounts heads() const = 0;
  virtual bool has_vision() const = 0;  ///< the configuration describes a vision tower
  virtual bool tied_head() const = 0;
  virtual bool is_full_attention(int layer) const = 0;

  /// Takes a tensor name of `dialect` apart. A low-rank factor ("X.weight.lora_a", PEFT's "X.lora_A.weight") gives the
  /// slot of its base weight, with its own [rank, in] or [out, rank] as the matrix. Nothing for names that are none of
  /// this architecture's, or whose shape cannot be what the name says.
  virtual std::optional<Assembly> parse(Dialect dialect, std::string_view tensor, const Shape& shape) const = 0;
  /// Where `dialect` keeps `slot`; the inverse of parse(). Nothing when the dialect has no place for it.
  virtual std::optional<Placement> place(Dialect dialect, const Slot& slot,
                                         ExpertLayout experts = ExpertLayout::fused) const = 0;
  /// The slot's canonical matrix, [rows, columns], or [n] for a vector.
  virtual Shape slot_shape(const Slot& slot) const = 0;
  /// "model.language_model.layers.3.self_attn.q_proj.weight"
  virtual std::string canonical_name(const Slot& slot) const = 0;

  /// From the canonical matrix to the one that `dialect` prescribes.
  virtual View convention(Dialect dialect, const Slot& slot) const = 0;
  /// From the canonical matrix to the one that this very checkpoint stores: convention() of its dialect, unless the
  /// data's shapes show that it was never applied or applied already (an MLX directory with raw Hugging Face tensors), and
  /// column orders that the checkpoint records (models/permutations.h).
  virtual View stored_convention(const Slot& slot) const = 0;
  /// From the canonical matrix to the effective form, in which all dialects are compared: norms 1 + w, decay
  /// -exp(A_log).
  virtual View effective(const Slot& slot) const = 0;

  /// A dense type that `dialect`'s loaders insist on for this slot whatever the recipe says (llama.cpp: F32 norms).
  virtual std::optional<DType> required_dtype(Dialect dialect, const Slot& slot) const = 0;
  virtual OutputKind output_of(Dialect dialect, const Slot& slot) const = 0;
  /// The matrix of a Linear module of the text model or MTP, lm_head included: what low-rank factors may correct and
  /// quantizers take. Not the embedding, routers, the convolution and the vision tower.
  virtual bool is_linear(const Slot& slot) const = 0;

  /// The weights whose rows meet the columns of `slot` element by element and go nowhere else (gate and up of an MLP for
  /// its down projection): columns and rows may take any order together. Empty for others.
  virtual std::vector<Slot> row_partners(const Slot& slot) const = 0;
  /// The weight whose columns meet the rows of `slot`; the inverse of row_partners().
  virtual std::optional<Slot> column_partner(const Slot& slot) const = 0;

  virtual std::vector<ExpectedSlot> expected() const = 0;

  /// The keys of a GGUF file made from `source`, in the order of llama.cpp's converter: general.*, architecture,
  /// tokenizer. Reads sidecars of `source`. What had to be guessed is appended to `findings`. Throws Error{malformed}
  /// for sidecars that contradict themselves and Error{not_found} for what the target cannot do without.
  virtual Metadata gguf_metadata(const Checkpoint& source, OutputKind kind, const GgufFacts& facts,
                                 Findings& findings) const = 0;

  /// The inverse: the text files of a Hugging Face or MLX directory made from `model`, the GGUF checkpoint of a model
  /// that this architecture is bound to. config.json, tokenizer and chat templates, generation_config.json, and with
  /// facts.vision the processors' files; files come by ascending name, unsafe names do not. Without facts.vision the hf
  /// configuration is that of the text class (flat, "Qwen3_5ForCausalLM"), and place() of the architecture that
  /// recognise() makes of it gives that class's names; the mlx one stays nested, as mlx-lm has it. What no key says is
  /// appended to `findings` ("config-guessed", "tokenizer-guessed"), as is every key that is left out.
  ///
  /// Throws Error{malformed} naming the key for keys that contradict themselves, Error{unsupported} for tokenizers and
  /// rope scalings that cannot be said in those files, Error{invalid} when facts.vision is no vision tower of this
  /// model.
  virtual std::vector<TextFile> hf_files(const Checkpoint& model, const HfFacts& facts, Findings& findings) const = 0;
};

/// The architecture of a checkpoint, from config.json or GGUF keys; nothing when it is none that we know. Throws
/// Error{malformed} when it names one we know but its configuration makes no sense (a layer count of 10^9).
std::unique_ptr<const Architecture> recognise(const Checkpoint& checkpoint);

}  // namespace regauge
