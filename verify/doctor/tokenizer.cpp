#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "models/tokenizer_conventions.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

constexpr std::string_view kFamily = "qwen35";
constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr std::string_view kEndOfTurn = "<|im_end|>";

/// The Split of tokenizer.json's pre-tokenizer, alone or first in a sequence; nothing when there is none.
std::optional<std::string> split_regex(const Json& tokenizer) {
  const Json* pre = tokenizer.is_object() ? get_object(tokenizer, "pre_tokenizer") : nullptr;
  if (pre == nullptr) return std::nullopt;
  Json steps = Json::array();
  if (const Json* sequence = get_array(*pre, "pretokenizers")) {
    steps = *sequence;
  } else {
    steps.push_back(*pre);
  }
  for (const Json& step : steps) {
    const Json* pattern = step.is_object() ? get_object(step, "pattern") : nullptr;
    if (pattern == nullptr) continue;
    if (auto regex = get_string(*pattern, "Regex")) return regex;
  }
  return std::nullopt;
}

std::optional<Json> json_of(const Checkpoint& checkpoint, std::string_view name, std::uint64_t max_bytes) {
  try {
    const auto text = checkpoint.sidecar_text(name, max_bytes);
    if (!text) return std::nullopt;
    Json json = parse_json(*text, std::string(name), {.duplicates = JsonDuplicates::keep_last});
    return json.is_object() ? std::optional(std::move(json)) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Qwen2's regex leaves combining marks out of words.
void examine_regex(const Checkpoint& checkpoint, Findings& findings, Chart& chart) {
  const auto tokenizer = json_of(checkpoint, "tokenizer.json", kMaxTokenizerBytes);
  if (!tokenizer) return;
  const auto regex = split_regex(*tokenizer);
  if (!regex) return;
  const auto known = std::ranges::find(kPreTokenizers, *regex, &PreTokenizer::regex);
  if (known == kPreTokenizers.end() || known->name == kFamily) return;
  std::erase_if(findings, [](const Finding& finding) { return finding.code == "tokenizer-pre-differs"; });
  chart.fault(
      "pre-tokenizer-old",
      fmt::format("tokenizer.json splits words by the regex of '{}', which leaves combining marks (\\p{{M}}) out "
                  "of them; Qwen3.5 has '{}'",
                  known->name, kFamily),
      chart.loaders(), {chart.rewrite("takes the tokenizer from the original", {"--assets", "ORIGINAL"})}, {},
      "tokenizer.json");
}

/// "<|im_end|>", or {"content": "<|im_end|>", ...}.
std::string token_text(const Json& config, std::string_view key) {
  const Json* entry = find(config, key);
  if (entry == nullptr) return {};
  if (entry->is_string()) return entry->get<std::string>();
  return entry->is_object() ? get_string(*entry, "content").value_or("") : "";
}

bool template_ends_turns(const Checkpoint& checkpoint, const Json& tokenizer_config) {
  const auto file = checkpoint.sidecar_text("chat_template.jinja", kMaxConfigBytes);
  const std::string text = file.value_or(token_text(tokenizer_config, "chat_template"));
  return text.find(kEndOfTurn) != std::string::npos;
}

/// A chat goes on and on when generation stops at the end of text alone.
void examine_eos(const Checkpoint& checkpoint, Chart& chart) {
  const auto config = json_of(checkpoint, "tokenizer_config.json", kMaxConfigBytes);
  if (!config || token_text(*config, "eos_token") != kEndOfText || !template_ends_turns(checkpoint, *config)) return;
  const auto generation = json_of(checkpoint, "generation_config.json", kMaxConfigBytes);
  const Json* ids = generation ? find(*generation, "eos_token_id") : nullptr;
  if (ids != nullptr && ids->is_array() && ids->size() > 1) return;
  chart.fault("eos-from-config",
              fmt::format("eos_token is '{}', while the chat template ends turns with '{}'", kEndOfText, kEndOfTurn),
              chart.loaders(),
              {chart.rewrite("takes the tokenizer's files from the original", {"--assets", "ORIGINAL"})}, {},
              "tokenizer_config.json");
}

void examine_gguf_pre(const Checkpoint& checkpoint, Chart& chart) {
  if (checkpoint.metadata.get_string("tokenizer.ggml.model") != "gpt2") return;
  const auto pre = checkpoint.metadata.get_string("tokenizer.ggml.pre");
  if (pre == kFamily) return;
  chart.fault(
      "pre-tokenizer-old",
      pre ? fmt::format("tokenizer.ggml.pre is '{}', where Qwen3.5 has '{}'", printable(excerpt(*pre)), kFamily)
          : fmt::format("tokenizer.ggml.pre is not there, where Qwen3.5 has '{}'", kFamily),
      {Loader::llama_cpp},
      {chart.convert_original("names the splitter that the tokenizer has"),
       Chart::no_command(fmt::format("until then: llama.cpp's --override-kv tokenizer.ggml.pre=str:{}", kFamily))},
      "tokenizer.ggml.pre");
}

void examine_gguf_eos(const Checkpoint& checkpoint, Chart& chart) {
  const MetaArray* tokens = checkpoint.metadata.get_array("tokenizer.ggml.tokens");
  const auto* texts = tokens == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&tokens->values);
  const auto eos = checkpoint.metadata.get_uint("tokenizer.ggml.eos_token_id");
  const auto chat = checkpoint.metadata.get_string("tokenizer.chat_template");
  if (texts == nullptr || !chat || chat->find(kEndOfTurn) == std::string::npos) return;
  const auto turn = std::ranges::find(*texts, kEndOfTurn);
  if (turn == texts->end()) return;
  const auto id = turn - texts->begin();
  // Without the key llama.cpp takes token 11. Source: ggml-org/llama.cpp src/llama-vocab.cpp.
  if (eos && (*eos >= texts->size() || (*texts)[*eos] != kEndOfText)) return;
  chart.fault(
      "eos-from-config",
      fmt::format(
          "{}, while the chat template ends turns with '{}', which is {}",
          eos ? fmt::format("eos_token_id is {}, '{}'", *eos, kEndOfText) : std::string("there is no eos_token_id"),
          kEndOfTurn, id),
      {Loader::llama_cpp},
      {chart.convert_original("takes it from the tokenizer's own files"),
       Chart::no_command(fmt::format("until then: llama.cpp's --override-kv tokenizer.ggml.eos_token_id=int:{}", id))},
      "tokenizer.ggml.eos_token_id");
}

}  // namespace

void examine_tokenizer(const Patient& patient, Findings& findings, Chart& chart) {
  if (patient.report.architecture == nullptr) return;
  const Checkpoint& checkpoint = patient.checkpoint;
  if (checkpoint.dialect == Dialect::gguf) {
    examine_gguf_pre(checkpoint, chart);
    examine_gguf_eos(checkpoint, chart);
  } else {
    examine_regex(checkpoint, findings, chart);
    examine_eos(checkpoint, chart);
  }
}

}  // namespace regauge::doctor
