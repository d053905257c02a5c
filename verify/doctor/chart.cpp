#include "verify/doctor/chart.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"

namespace regauge::doctor {

void Chart::add(Finding finding, std::vector<Loader> breaks, std::vector<Cure> cures) {
  if (!std::ranges::binary_search(ailment_codes(), finding.code))
    throw Error(ErrorCode::internal, "an ailment that is not in the list: '{}'", finding.code);
  ailments_.push_back({std::move(finding), std::move(breaks), std::move(cures)});
}

void Chart::fault(std::string_view code, std::string message, std::vector<Loader> breaks, std::vector<Cure> cures,
                  std::string tensor, std::string file) {
  add({Severity::fault, std::string(code), std::move(message), std::move(file), std::move(tensor)}, std::move(breaks),
      std::move(cures));
}

void Chart::note(std::string_view code, std::string message, std::vector<Loader> breaks, std::vector<Cure> cures) {
  add({Severity::note, std::string(code), std::move(message), {}, {}}, std::move(breaks), std::move(cures));
}

std::string Chart::target(std::string_view format) const {
  const std::filesystem::path path = std::filesystem::path(path_).lexically_normal();
  std::string stem = (path.has_filename() ? path : path.parent_path()).string();
  const bool was_file = !directory_;
  for (const std::string_view extension : {".rg.gguf", ".gguf", ".safetensors"}) {
    // A container is a file, and a directory may lie in it.
    if (!stem.ends_with(extension) || (!was_file && extension != ".rg.gguf")) continue;
    stem.resize(stem.size() - extension.size());
    break;
  }
  stem += "-mended";
  if (format == "gguf") return stem + ".gguf";
  return was_file && format == "safetensors" ? stem + ".safetensors" : stem;
}

Cure Chart::rewrite(std::string effect, std::vector<std::string> options) const {
  if (options.empty()) options.emplace_back("--fresh");
  const bool has_layout = std::ranges::find(options, "--layout") != options.end();
  // v1 is what is written unless something else is asked for, and a mended checkpoint is to stay what it was.
  if (format_ == "gptq" && !has_layout && (version_ == "v2" || version_ == "planar" || version_ == "marlin"))
    options.insert(options.end(), {"--layout", version_});
  return convert_to(format_, std::move(effect), std::move(options));
}

Cure Chart::convert_to(std::string_view format, std::string effect, std::vector<std::string> options) const {
  std::vector<std::string> command{"regauge", "convert", path_, target(format)};
  if (!command.back().ends_with(".gguf") && !command.back().ends_with(".safetensors"))
    command.insert(command.end(), {"--to", std::string(format)});
  command.insert(command.end(), options.begin(), options.end());
  return {std::move(command), std::move(effect)};
}

Cure Chart::convert_original(std::string effect) const {
  std::vector<std::string> command{"regauge", "convert", "ORIGINAL", target(format_)};
  if (format_ != "gguf") command.insert(command.end(), {"--to", format_});
  return {std::move(command), std::move(effect)};
}

Cure Chart::graft(std::string_view part, std::string effect) const {
  return {{"regauge", "graft", path_, target(format_), fmt::format("--{}", part), "DONOR"}, std::move(effect)};
}

std::vector<Loader> Chart::loaders() const {
  if (format_ == "gguf") return {Loader::llama_cpp};
  if (format_ == "mlx") return {Loader::mlx_lm};
  if (format_ == "gptq") return {Loader::vllm, Loader::gptqmodel};
  return {Loader::vllm};
}

std::string count_of(std::size_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", format_count(count), count == 1 ? one : many);
}

std::string_view module_of(const Tensor& tensor) {
  constexpr std::string_view kWeight = ".weight";
  const std::string_view name = tensor.name;
  return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr std::size_t kNamed = 4;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kNamed; ++i) text += (i == 0 ? "" : ", ") + excerpt(names[i]);
  if (names.size() > kNamed) text += fmt::format(" and {} more", names.size() - kNamed);
  return text;
}

}  // namespace regauge::doctor
