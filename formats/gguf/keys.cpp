#include "formats/gguf/keys.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace regauge::gguf {
namespace {

struct KnownKey {
  std::string_view key;
  MetaType type;
  std::optional<MetaType> element;  ///< of an array
};

// Sources: ggml-org/ggml docs/gguf.md (general, tokenizer); ggml-org/llama.cpp src/llama-vocab.cpp, which reads exactly
// these element types, and src/llama-model-loader.cpp for the split keys.
constexpr std::array kKnownKeys = {
    KnownKey{"general.architecture", MetaType::string, std::nullopt},
    KnownKey{"general.type", MetaType::string, std::nullopt},
    KnownKey{"split.no", MetaType::u16, std::nullopt},
    KnownKey{"split.count", MetaType::u16, std::nullopt},
    KnownKey{"split.tensors.count", MetaType::i32, std::nullopt},
    KnownKey{"tokenizer.ggml.model", MetaType::string, std::nullopt},
    KnownKey{"tokenizer.ggml.pre", MetaType::string, std::nullopt},
    KnownKey{"tokenizer.ggml.tokens", MetaType::array, MetaType::string},
    KnownKey{"tokenizer.ggml.merges", MetaType::array, MetaType::string},
    KnownKey{"tokenizer.ggml.scores", MetaType::array, MetaType::f32},
    KnownKey{"tokenizer.ggml.token_type", MetaType::array, MetaType::i32},
};

/// The keys of one header with their places in the file.
class KeyChecker {
 public:
  KeyChecker(const Metadata& metadata, std::span<const std::uint64_t> offsets, const std::string& path)
      : metadata_(metadata), offsets_(offsets), path_(path) {}

  void check_type(const KnownKey& known) const {
    const MetaValue* value = metadata_.find(known.key);
    if (value == nullptr) return;
    if (type_of(*value) != known.type) {
      throw fail(known.key, "is {} where {} is needed", name(type_of(*value)), name(known.type));
    }
    const auto* array = std::get_if<MetaArray>(value);
    if (array != nullptr && array->element != known.element) {
      throw fail(known.key, "is an array of {} where {} is needed", name(array->element), name(*known.element));
    }
  }

  void check_length(std::string_view key, std::size_t tokens) const {
    const MetaArray* array = metadata_.get_array(key);
    if (array != nullptr && array->size() != tokens) {
      throw fail(key, "has {} elements for {} tokens", array->size(), tokens);
    }
  }

  std::uint32_t alignment() const {
    const MetaValue* value = metadata_.find(kAlignmentKey);
    if (value == nullptr) return kDefaultAlignment;
    const auto* alignment = std::get_if<std::uint32_t>(value);
    if (alignment == nullptr || !std::has_single_bit(*alignment)) {
      throw fail(kAlignmentKey, "is {} {} where a power of two as u32 is needed", name(type_of(*value)),
                 excerpt(to_string(*value)));
    }
    return *alignment;
  }

 private:
  template <typename... Args>
  Error fail(std::string_view key, fmt::format_string<Args...> format, Args&&... args) const {
    Error error(ErrorCode::malformed, "key '{}' {}", key, fmt::format(format, std::forward<Args>(args)...));
    const auto found = std::ranges::find(metadata_.entries(), key, &Metadata::Entry::first);
    error.at(path_).offset(offsets_[static_cast<std::size_t>(found - metadata_.entries().begin())]);
    return error;
  }

  const Metadata& metadata_;
  std::span<const std::uint64_t> offsets_;
  const std::string& path_;
};

}  // namespace

std::uint32_t check_known_keys(const Metadata& metadata, std::span<const std::uint64_t> offsets,
                               const std::string& path, FindingTally& tally) {
  const KeyChecker checker(metadata, offsets, path);
  for (const KnownKey& known : kKnownKeys) checker.check_type(known);
  if (const MetaArray* tokens = metadata.get_array("tokenizer.ggml.tokens")) {
    checker.check_length("tokenizer.ggml.scores", tokens->size());
    checker.check_length("tokenizer.ggml.token_type", tokens->size());
  }
  // An imatrix file has a type and no architecture, by rights (ggml-org/llama.cpp tools/imatrix/imatrix.cpp); so have
  // the later shards of a split file.
  const bool is_model = metadata.get_string("general.type").value_or("model") != "imatrix";
  const bool is_later_shard = metadata.get_uint("split.no").value_or(0) > 0;
  if (is_model && !is_later_shard && metadata.find("general.architecture") == nullptr) {
    tally.add(Severity::warning, "architecture-missing", "key is not there", "general.architecture");
  }
  const std::uint32_t alignment = checker.alignment();
  // Loads everywhere, but llama-quantize and gguf-split write files that do not, because they pad to 32 regardless.
  if (alignment != kDefaultAlignment) {
    tally.add(Severity::note, "alignment-not-32", "alignment other than 32, which some tools do not keep",
              kAlignmentKey);
  }
  return alignment;
}

}  // namespace regauge::gguf
