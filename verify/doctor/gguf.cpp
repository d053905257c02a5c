#include <algorithm>
#include <array>
#include <unordered_map>

#include <fmt/format.h>

#include "base/text.h"
#include "models/gguf_key_types.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

/// Types that a GGUF file may hold and that llama.cpp computes nothing with: integers abort it, f64 crashes it. Source:
/// ggml-org/ggml src/ggml-cpu/ops.cpp, ggml_compute_forward_mul_mat and ggml_compute_forward_get_rows.
void examine_matrices(const Patient& patient, Chart& chart) {
  std::vector<std::string> names;
  std::string pattern;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    const Tensor& tensor = patient.checkpoint.tensors[entry.tensor];
    const auto* dense = std::get_if<Dense>(&tensor.encoding);
    if (!entry.assembly || dense == nullptr || tensor.shape.rank() < 2) continue;
    const bool usable = dense->dtype == DType::f32 || dense->dtype == DType::f16 || dense->dtype == DType::bf16;
    if (usable) continue;
    names.push_back(fmt::format("{} {}", tensor.name, entry.encoding));
    pattern += pattern.empty() ? "^(" : "|";
    for (const char c : tensor.name) pattern += c == '.' ? "\\." : std::string(1, c);
  }
  if (names.empty()) return;
  chart.fault("gguf-type-unusable",
              fmt::format("{} of a type that nothing is computed with: {}",
                          count_of(names.size(), "matrix is", "matrices are"), list_of(names)),
              {Loader::llama_cpp}, {chart.rewrite("stores the numbers as F32", {"--tensor-type", pattern + ")$=f32"})});
}

/// llama.cpp loads such a file and aborts in the first decode. Source: ggml-org/ggml src/ggml-cpu/binary-ops.cpp.
void examine_types(const Patient& patient, Chart& chart) {
  std::vector<std::string> names;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    if (!entry.assembly || entry.assembly->pieces.empty()) continue;
    const Tensor& tensor = patient.checkpoint.tensors[entry.tensor];
    const auto required =
        patient.report.architecture->required_dtype(Dialect::gguf, entry.assembly->pieces.front().slot);
    const auto* dense = std::get_if<Dense>(&tensor.encoding);
    if (required && (dense == nullptr || dense->dtype != *required))
      names.push_back(fmt::format("{} {}", tensor.name, entry.encoding));
  }
  examine_matrices(patient, chart);
  if (names.empty()) return;
  chart.fault("gguf-not-f32",
              fmt::format("{} that has to be F32 and is not: {}",
                          count_of(names.size(), "norm or small vector", "norms and small vectors"), list_of(names)),
              {Loader::llama_cpp}, {chart.rewrite("stores them as F32")});
}

/// Nothing for a key that is not there or no list.
const MetaArray* list_of_key(const Metadata& keys, std::string_view key) {
  const MetaValue* value = keys.find(key);
  return value == nullptr ? nullptr : std::get_if<MetaArray>(value);
}

/// Keys without which the loader gives up, or takes something else in silence: 10000 and the whole head for the two of rope, so
/// that logits are wrong. Those without which nobody knows the sizes are told by config-malformed. Source: ggml-org/llama.cpp
/// src/llama-model.cpp, load_hparams, and src/models/qwen35.cpp.
void examine_required(const Metadata& keys, const std::string& prefix, Chart& chart) {
  const auto fault = [&](const std::string& key, std::string message) {
    chart.fault("gguf-key-missing", std::move(message), {Loader::llama_cpp},
                {chart.convert_original("writes all keys")}, key);
  };
  for (const std::string_view key : {"rope.freq_base", "rope.dimension_count"}) {
    const std::string full = prefix + "." + std::string(key);
    if (keys.find(full) == nullptr)
      fault(full, fmt::format("key '{}' is not there: the file loads, and positions are rotated wrongly", full));
  }
  const std::string eps = prefix + ".attention.layer_norm_rms_epsilon";
  if (keys.find(eps) == nullptr) fault(eps, fmt::format("key '{}' is not there, and the loader asks for it", eps));
  const std::string sections = prefix + ".rope.dimension_sections";
  const MetaArray* array = list_of_key(keys, sections);
  if (array == nullptr) {
    fault(sections, fmt::format("key '{}' is not there, and the loader asks for it", sections));
  } else if (array->size() != 4) {
    fault(sections, fmt::format("key '{}' has {} numbers, and the loader asks for 4", sections, array->size()));
  }
}

/// A list for each block has to be one of all blocks; what the others have is not in the file. Source: ggml-org/llama.cpp
/// src/llama-model-loader.cpp, get_key_or_arr.
void examine_lists(const Metadata& keys, const std::string& prefix, Chart& chart) {
  const auto blocks = keys.get_uint(prefix + ".block_count");
  for (const std::string_view key : {"attention.head_count", "attention.head_count_kv"}) {
    const std::string full = prefix + "." + std::string(key);
    const MetaArray* array = list_of_key(keys, full);
    if (array == nullptr || !blocks || array->size() == *blocks) continue;
    chart.fault("gguf-key-type", fmt::format("key '{}' has {} numbers for {} blocks", full, array->size(), *blocks),
                {Loader::llama_cpp}, {chart.convert_original("writes one number for all")}, full);
  }
}

void examine_keys(const Patient& patient, const std::string& prefix, Chart& chart) {
  const Metadata& keys = patient.checkpoint.metadata;
  std::vector<std::string> wrong;
  for (const auto& [key, value] : keys.entries()) {
    const auto wanted = gguf_key_type(prefix, key);
    if (wanted && type_of(value) != *wanted && type_of(value) != MetaType::array)
      wrong.push_back(fmt::format("{} is {}, not {}", key, name(type_of(value)), name(*wanted)));
  }
  if (!wrong.empty()) {
    chart.fault("gguf-key-type",
                fmt::format("{} of a type that the loader refuses: {}", count_of(wrong.size(), "key is", "keys are"),
                            list_of(wrong)),
                {Loader::llama_cpp}, {chart.rewrite("stores the same numbers in the right types")});
  }
  examine_lists(keys, prefix, chart);
  examine_required(keys, prefix, chart);
}

/// Two tokens of one text abort llama.cpp. Source: ggml-org/llama.cpp src/llama-vocab.cpp, load.
void examine_texts(const MetaArray& tokens, Chart& chart) {
  const auto* texts = std::get_if<std::vector<std::string>>(&tokens.values);
  if (texts == nullptr) return;
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t id = 0; id < texts->size(); ++id) {
    const auto [other, fresh] = seen.emplace((*texts)[id], id);
    if (fresh) continue;
    chart.fault(
        "token-twice",
        fmt::format("tokens {} and {} have one text, '{}'", other->second, id, printable(excerpt((*texts)[id]))),
        {Loader::llama_cpp}, {chart.convert_original("gives padding texts of its own")}, "tokenizer.ggml.tokens");
    return;
  }
}

/// What the loader wants to know of a vocabulary, which may be that there is none. Source: ggml-org/llama.cpp
/// src/llama-vocab.cpp, load.
void examine_tokens(const Patient& patient, const std::string& prefix, Chart& chart) {
  const Metadata& keys = patient.checkpoint.metadata;
  const auto missing = [&](std::string message, std::string key) {
    chart.fault("tokenizer-missing", std::move(message), {Loader::llama_cpp},
                {chart.convert_original("takes the tokenizer along")}, std::move(key));
  };
  const auto model = keys.get_string("tokenizer.ggml.model");
  const MetaArray* tokens = keys.get_array("tokenizer.ggml.tokens");
  if (tokens != nullptr) examine_texts(*tokens, chart);
  if (!model) return missing("there is no tokenizer.ggml.model", "tokenizer.ggml.model");
  if (*model == "none" || *model == "no_vocab") {
    if (keys.find(prefix + ".vocab_size") == nullptr)
      missing(fmt::format("tokenizer.ggml.model is '{}', and there is no vocab_size", *model), prefix + ".vocab_size");
    return;
  }
  if (tokens == nullptr) return missing("there is no list of tokens", "tokenizer.ggml.tokens");
  if (*model == "gpt2" && keys.find("tokenizer.ggml.merges") == nullptr)
    missing("a byte-level vocabulary without tokenizer.ggml.merges", "tokenizer.ggml.merges");
}

/// Versions and byte orders that llama.cpp's loader turns away, or never knew. Source: ggml-org/ggml src/gguf.cpp,
/// gguf_init_from_reader.
void examine_container(const Patient& patient, const Findings& findings, Chart& chart) {
  const std::string& version = patient.checkpoint.format_version;
  if (!patient.checkpoint.packed_format.empty()) return;
  const bool turned = version.find("big endian") != std::string::npos;
  const bool old = version.starts_with("v1 ");
  if (!turned && !old) return;
  const bool blocks = std::ranges::find(findings, "big-endian-blocks", &Finding::code) != findings.end();
  chart.fault(
      "gguf-version", fmt::format("GGUF {}: loaders take versions 2 and 3 in the byte order of their machine", version),
      {Loader::llama_cpp},
      {blocks ? chart.convert_original("writes version 3, little endian: nobody can say how the blocks here lie")
              : chart.rewrite("writes version 3, little endian")});
}

}  // namespace

void examine_gguf(const Patient& patient, Findings& findings, Chart& chart) {
  const Checkpoint& checkpoint = patient.checkpoint;
  if (checkpoint.dialect != Dialect::gguf) return;
  examine_container(patient, findings, chart);
  if (patient.report.architecture == nullptr) return;
  examine_types(patient, chart);
  if (checkpoint.metadata.get_string("general.type").value_or("model") != "model") return;
  const std::string prefix = checkpoint.metadata.get_string("general.architecture").value_or("");
  examine_keys(patient, prefix, chart);
  examine_tokens(patient, prefix, chart);
}

}  // namespace regauge::doctor
