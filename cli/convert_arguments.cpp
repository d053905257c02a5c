#include "cli/convert_arguments.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "convert/importance.h"
#include "convert/recipe/recipe.h"
#include "models/architecture.h"

namespace regauge::cli {
namespace {

std::optional<DType> dtype_option(const std::string& text) {
  if (text.empty()) return std::nullopt;
  if (text == "f32") return DType::f32;
  if (text == "f16") return DType::f16;
  return DType::bf16;
}

}  // namespace

std::string target_format(const ConvertArguments& arguments) {
  if (!arguments.to.empty()) return arguments.to;
  const std::string extension = std::filesystem::path(arguments.target).extension().string();
  if (arguments.target.ends_with(".rg.gguf")) return "container";
  if (extension == ".gguf") return "gguf";
  if (extension == ".safetensors") return "safetensors";
  throw Error(ErrorCode::invalid,
              "'{}' does not tell its format: name it .gguf or .safetensors, or say --to gptq, mlx or safetensors",
              arguments.target);
}

namespace {

/// "4GiB", "500M", "1000000": bytes, with the suffixes of gguf-split (powers of 1000) or with i (powers of 1024).
std::uint64_t size_option(const std::string& text) {
  if (text.empty()) return 0;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string suffix(end, text.data() + text.size());
  if (suffix.ends_with('B')) suffix.pop_back();
  std::uint64_t unit = 0;
  for (const auto& [name, bytes] : {std::pair<std::string_view, std::uint64_t>{"", 1},
                                    {"K", 1000},
                                    {"M", 1'000'000},
                                    {"G", 1'000'000'000},
                                    {"Ki", 1024},
                                    {"Mi", 1 << 20},
                                    {"Gi", 1 << 30}}) {
    if (suffix == name) unit = bytes;
  }
  const auto bytes = checked_mul(value, unit);
  if (error != std::errc() || !bytes || *bytes == 0)
    throw Error(ErrorCode::invalid, "'{}' is no size such as 4GiB, 500M or 1000000", text);
  return *bytes;
}

bool has_extension(const ConvertArguments& arguments, std::string_view extension) {
  return std::filesystem::path(arguments.target).extension() == extension;
}

}  // namespace

/// --tensor-type over --like over --recipe; null when none is given.
std::shared_ptr<const Recipe> recipe_of(const ConvertArguments& arguments) {
  if (arguments.recipe.empty() && arguments.tensor_types.empty() && arguments.like.empty()) return nullptr;
  Recipe recipe = load_recipe(arguments.recipe.empty() ? "exact" : arguments.recipe);
  if (!arguments.like.empty()) {
    const Checkpoint other = open_checkpoint(arguments.like);
    Recipe layout = layout_of(other, recognise(other).get());
    recipe.layout = std::move(layout.layout);
    recipe.name = layout.name;
  }
  std::vector<Rule> rules;
  for (const std::string& text : arguments.tensor_types) rules.push_back(rule_from_text(text));
  recipe.rules.insert(recipe.rules.begin(), rules.begin(), rules.end());
  return std::make_shared<const Recipe>(std::move(recipe));
}

bool names_directory(const ConvertArguments& arguments) {
  return !has_extension(arguments, ".safetensors") && !has_extension(arguments, ".gguf");
}

ConvertOptions options_of(const ConvertArguments& arguments) {
  ConvertOptions options;
  options.format = target_format(arguments);
  options.dtype = dtype_option(arguments.dtype);
  options.dense = dtype_option(arguments.dense);
  // A safetensors file has no quantized encodings, so the type of its values is the type of all of them.
  if (options.format == "safetensors" && !options.dense) options.dense = options.dtype;
  for (const std::string& loss : arguments.allow) {
    options.allow_dense = options.allow_dense || loss == "dense";
    options.allow_rounded = options.allow_rounded || loss == "rounded";
    options.allow_requantized = options.allow_requantized || loss == "requantized";
  }
  options.recipe = recipe_of(arguments);
  if (!arguments.imatrix.empty()) {
    if (options.format != "gguf")
      throw Error(ErrorCode::invalid, "--imatrix is for GGUF targets: no other quantizer here minds one");
    options.importance = std::make_shared<const Importance>(Importance::read(arguments.imatrix));
  }
  options.mlx_rule = arguments.mlx_rule == "metal" ? MlxRule::metal : MlxRule::cpu;
  options.directory = options.format == "safetensors" && !has_extension(arguments, ".safetensors");
  options.layout = *gptq_layout_from_name(arguments.layout.empty() ? "v1" : arguments.layout);
  options.shard_bytes = size_option(arguments.shard_size);
  options.fold = !arguments.no_fold;
  if (!arguments.assets.empty()) options.assets = arguments.assets;
  if (!arguments.outputs.empty()) {
    const auto listed = [&](std::string_view kind) {
      return std::ranges::find(arguments.outputs, kind) != arguments.outputs.end();
    };
    options.separate_mtp = listed("mtp");
    options.omit_model = !listed("model");
    options.drop_vision = !listed("mmproj");
    if (!listed("adapter")) options.eora = EoraPolicy::drop;
  }
  if (!arguments.require.empty()) options.require = fidelity_from_name(arguments.require);
  for (const std::string& part : arguments.drop) {
    options.drop_vision = options.drop_vision || part == "vision";
    options.drop_mtp = options.drop_mtp || part == "mtp";
    if (part == "eora") options.eora = EoraPolicy::drop;
    options.drop_foreign = options.drop_foreign || part == "foreign";
  }
  if (arguments.eora == "keep") options.eora = EoraPolicy::keep;
  if (arguments.eora == "merge") options.eora = EoraPolicy::merge;
  if (arguments.eora == "drop") options.eora = EoraPolicy::drop;
  options.merge_only = arguments.merge_only;
  if (!arguments.merge_only.empty() && options.eora != EoraPolicy::merge)
    throw Error(ErrorCode::invalid, "--merge-only goes with --eora merge");
  options.model_name = arguments.name;
  options.overwrite = arguments.force;
  options.replace_partial = arguments.force;
  options.threads = arguments.threads;
  options.max_memory = size_option(arguments.max_memory);
  options.verify = arguments.verify;
  options.digests = !arguments.manifest.empty();
  options.journal = !arguments.no_journal;
  options.resume = arguments.resume;
  return options;
}

OpenOptions open_options_of(const ConvertArguments& arguments) {
  OpenOptions options;
  if (arguments.zeros == "v1") options.zeros = ZerosLabel::v1;
  if (arguments.zeros == "v2") options.zeros = ZerosLabel::v2;
  if (!arguments.adapter.empty()) options.adapter = arguments.adapter;
  return options;
}

bool asks_for_a_copy(const ConvertArguments& arguments, const Checkpoint& source) {
  if (arguments.fresh || target_format(arguments) != source.array_format()) return false;
  const bool changes = !arguments.dtype.empty() || !arguments.dense.empty() || !arguments.drop.empty() ||
                       !arguments.layout.empty() || !arguments.shard_size.empty() || !arguments.outputs.empty() ||
                       !arguments.assets.empty() || !arguments.mmproj.empty() || !arguments.name.empty() ||
                       !arguments.adapter.empty() || !arguments.recipe.empty() || !arguments.tensor_types.empty() ||
                       !arguments.like.empty() || !arguments.eora.empty();
  // Parts of a split model are read as one, and one is what is asked for.
  const bool merges = !source.is_directory() && source.files.size() > 1;
  return !changes && !merges && source.is_directory() == names_directory(arguments);
}

}  // namespace regauge::cli
