#include "convert/gguf_keys.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "base/error.h"
#include "convert/importance.h"
#include "convert/recipe/recipe.h"
#include "models/gguf_key_types.h"

namespace regauge {
namespace {

using Element = std::variant<DType, BlockType>;

// llama_ftype of a file whose matrices are mostly of one type; the K types stand for their "S" mixture.
const std::array<std::pair<Element, std::uint32_t>, 22> kFileTypes{{
    {DType::f32, 0},         {DType::f16, 1},        {BlockType::q4_0, 2},    {BlockType::q4_1, 3},
    {BlockType::q8_0, 7},    {BlockType::q5_0, 8},   {BlockType::q5_1, 9},    {BlockType::q2_K, 10},
    {BlockType::q3_K, 11},   {BlockType::q4_K, 14},  {BlockType::q5_K, 16},   {BlockType::q6_K, 18},
    {BlockType::iq4_nl, 25}, {BlockType::iq3_s, 26}, {BlockType::iq4_xs, 30}, {DType::bf16, 32},
    {BlockType::tq1_0, 36},  {BlockType::tq2_0, 37}, {BlockType::mxfp4, 38},  {BlockType::nvfp4, 39},
    {BlockType::q1_0, 40},   {BlockType::q2_0, 41},
}};

bool changes_encodings(const PlannedOutput& output) {
  return std::ranges::any_of(output.steps, [](const Step& step) { return step.route != Route::copy; });
}

/// Both keys at the end, where llama-quantize puts them. Source: ggml-org/llama.cpp src/llama-quant.cpp, checked against the
/// files of llama_model_quantize.
void note_mixture(const LlamaFileType& mixture, Metadata& keys) {
  for (const auto& [key, value] : {std::pair<std::string_view, std::uint32_t>{"general.quantization_version", 2},
                                   {"general.file_type", mixture.id}}) {
    keys.erase(key);
    keys.set(key, value);
  }
}

/// What was measured before quantizing. Source: ggml-org/llama.cpp tools/quantize/quantize.cpp.
void note_importance(const PlannedOutput& output, const ConvertOptions& options, Metadata& keys) {
  if (options.importance == nullptr || output.kind == OutputKind::mmproj) return;
  constexpr std::size_t kMostBytes = 127;
  const Importance& importance = *options.importance;
  keys.set("quantize.imatrix.file", std::string(importance.path().substr(0, kMostBytes)));
  if (!importance.datasets().empty())
    keys.set("quantize.imatrix.dataset", std::string(importance.datasets().front().substr(0, kMostBytes)));
  keys.set("quantize.imatrix.entries_count", static_cast<std::uint32_t>(importance.count()));
  if (importance.chunks() > 0) keys.set("quantize.imatrix.chunks_count", importance.chunks());
}

/// Source: ggml-org/llama.cpp convert_lora_to_gguf.py. Without adapter.lora.alpha every module is scaled by 1, whatever its
/// rank (src/llama-adapter.h, get_scale).
Metadata adapter_keys(const Checkpoint& source, const ConvertOptions& options) {
  Metadata keys;
  for (const char* key : {"general.architecture", "general.name"}) {
    if (const MetaValue* value = source.metadata.find(key)) keys.set(key, *value);
  }
  if (!options.model_name.empty()) keys.set("general.name", options.model_name);
  keys.set("general.type", std::string("adapter"));
  keys.set("adapter.type", std::string("lora"));
  keys.set("general.quantization_version", std::uint32_t{2});
  return keys;
}

/// Counts the MTP blocks that are written instead of those that the source announced, which no loader forgives.
void announce_mtp(const std::string& prefix, int layers, Metadata& keys) {
  const auto blocks = keys.get_uint(prefix + ".block_count");
  const std::uint64_t announced = keys.get_uint(prefix + ".nextn_predict_layers").value_or(0);
  const auto written = static_cast<std::uint64_t>(layers);
  if (!blocks || *blocks < announced || announced == written) return;
  const std::uint64_t total = *blocks - announced + written;
  keys.set(prefix + ".block_count", static_cast<std::uint32_t>(total));
  if (written == 0) {
    keys.erase(prefix + ".nextn_predict_layers");
  } else {
    keys.set(prefix + ".nextn_predict_layers", static_cast<std::uint32_t>(written));
  }
  const std::string recurrent = prefix + ".attention.recurrent_layers";
  if (const MetaArray* flags = keys.get_array(recurrent)) {
    MetaArray resized = *flags;
    std::visit([total](auto& values) { values.resize(static_cast<std::size_t>(total)); }, resized.values);
    keys.set(recurrent, std::move(resized));
  }
}

/// Numbers in types that llama.cpp refuses, in the right ones.
void correct_types(const std::string& prefix, Metadata& keys) {
  std::vector<Metadata::Entry> corrected;
  for (const auto& [key, value] : keys.entries()) {
    const auto type = gguf_key_type(prefix, key);
    if (!type || type_of(value) == *type) continue;
    if (auto right = as_key_type(value, *type)) corrected.emplace_back(key, *std::move(right));
  }
  for (auto& [key, value] : corrected) keys.set(key, std::move(value));
}

/// The rules of a model's keys that we know of, broken by whoever wrote the source.
void mend_model_keys(const Architecture* architecture, int mtp_layers, Metadata& keys) {
  if (architecture == nullptr || architecture->layers() == 0) return;
  const std::string prefix = keys.get_string("general.architecture").value_or("");
  correct_types(prefix, keys);
  announce_mtp(prefix, mtp_layers, keys);
}

Metadata carried_over(const Checkpoint& source, const Architecture* architecture, const PlannedOutput& output,
                      int mtp_layers) {
  Metadata keys = source.metadata;
  if (output.kind == OutputKind::model || output.kind == OutputKind::mtp)
    mend_model_keys(architecture, mtp_layers, keys);
  for (const char* key : {"split.no", "split.count", "split.tensors.count", "general.alignment"}) keys.erase(key);
  if (changes_encodings(output)) {
    keys.set("general.quantization_version", std::uint32_t{2});
    keys.set("general.file_type", gguf_file_type(output));
  }
  return keys;
}

Metadata model_keys(const Checkpoint& source, const Architecture* architecture, const PlannedOutput& output,
                    int mtp_layers, const ConvertOptions& options, Findings& findings) {
  if (source.dialect == Dialect::gguf) return carried_over(source, architecture, output, mtp_layers);
  if (architecture == nullptr) throw Error(ErrorCode::internal, "GGUF keys of an unknown architecture");
  GgufFacts facts;
  facts.name = options.model_name.empty() ? title_from_path(source.path) : options.model_name;
  for (const Target& target : output.targets) facts.parameters += target.shape.elements();
  facts.file_type = gguf_file_type(output);
  facts.mtp_layers = mtp_layers;
  return architecture->gguf_metadata(source, output.kind, facts, findings);
}

}  // namespace

std::uint32_t gguf_file_type(const PlannedOutput& output) {
  std::map<std::uint32_t, int> votes;
  for (const Step& step : output.steps) {
    if (step.shape.rank() < 2) continue;
    const auto found =
        std::ranges::find(kFileTypes, step.arrays.front().plan.element, &std::pair<Element, std::uint32_t>::first);
    if (found != kFileTypes.end()) ++votes[found->second];
  }
  const auto most = std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second; });
  return most == votes.end() ? 0 : most->first;
}

std::string title_from_path(const std::filesystem::path& path) {
  const auto absolute = std::filesystem::absolute(path).lexically_normal();
  std::string text =
      absolute.has_filename() ? absolute.filename().string() : absolute.parent_path().filename().string();
  std::string title;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('-', begin), text.size());
    std::string word = text.substr(begin, end - begin);
    const bool upper = std::ranges::any_of(word, [](char c) { return c >= 'A' && c <= 'Z'; });
    if (!upper && !word.empty() && word[0] >= 'a' && word[0] <= 'z') word[0] = static_cast<char>(word[0] - 'a' + 'A');
    if (!title.empty()) title += ' ';
    title += word;
    begin = end + 1;
  }
  return title;
}

Metadata gguf_keys(const Checkpoint& source, const Architecture* architecture, const PlannedOutput& output,
                   int mtp_layers, const ConvertOptions& options, Findings& findings) {
  if (source.dialect == Dialect::gguf && output.kind == OutputKind::adapter) return adapter_keys(source, options);
  Metadata keys = model_keys(source, architecture, output, mtp_layers, options, findings);
  if (const auto* mixture = mixture_for(options.recipe.get(), output.kind)) note_mixture(*mixture, keys);
  note_importance(output, options, keys);
  return keys;
}

}  // namespace regauge
