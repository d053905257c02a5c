#include <algorithm>
#include <array>
#include <unordered_map>

#include <fmt/format.h>

#include "base/text.h"
#include "models/gguf_key_types.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

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
  if (names.empty()) return;
  chart.fault("gguf-not-f32",
              fmt::format("{} that has to be F32 and is not: {}",
                          count_of(names.size(), "norm or small vector", "norms and small vectors"), list_of(names)),
              {Loader::llama_cpp}, {chart.rewrite("stores them as F32")});
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
  // Absent they are no error of the loader, and the logits are wrong: it takes 10000, and the whole head.
  // Source: ggml-org/llama.cpp src/llama-model.cpp, load_hparams.
  for (const std::string_view key : {"rope.freq_base", "rope.dimension_count"}) {
    const std::string full = prefix + "." + std::string(key);
    if (keys.find(full) != nullptr) continue;
    chart.fault("gguf-key-missing",
                fmt::format("key '{}' is not there: the file loads, and positions are rotated wrongly", full),
                {Loader::llama_cpp}, {chart.convert_original("writes all keys")}, full);
  }
}

/// Two tokens of one text abort llama.cpp. Source: ggml-org/llama.cpp src/llama-vocab.cpp, load.
void examine_tokens(const Patient& patient, const std::string& prefix, Chart& chart) {
  const Metadata& keys = patient.checkpoint.metadata;
  const MetaArray* tokens = keys.get_array("tokenizer.ggml.tokens");
  if (tokens == nullptr) {
    if (keys.find(prefix + ".vocab_size") == nullptr && keys.find("tokenizer.ggml.model") == nullptr) {
      chart.fault("tokenizer-missing", "there are neither tokenizer.ggml.* keys nor a vocab_size", {Loader::llama_cpp},
                  {chart.convert_original("takes the tokenizer along")});
    }
    return;
  }
  const auto* texts = std::get_if<std::vector<std::string>>(&tokens->values);
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
  if (keys.find("tokenizer.ggml.merges") == nullptr && keys.get_string("tokenizer.ggml.model") == "gpt2") {
    chart.fault("tokenizer-missing", "a byte-level vocabulary without tokenizer.ggml.merges", {Loader::llama_cpp},
                {chart.convert_original("takes the tokenizer along")}, "tokenizer.ggml.merges");
  }
}

}  // namespace

void examine_gguf(const Patient& patient, Findings&, Chart& chart) {
  const Checkpoint& checkpoint = patient.checkpoint;
  if (checkpoint.dialect != Dialect::gguf || patient.report.architecture == nullptr) return;
  examine_types(patient, chart);
  if (checkpoint.metadata.get_string("general.type").value_or("model") != "model") return;
  const std::string prefix = checkpoint.metadata.get_string("general.architecture").value_or("");
  examine_keys(patient, prefix, chart);
  examine_tokens(patient, prefix, chart);
}

}  // namespace regauge::doctor
