#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/finding.h"
#include "inspect/report.h"
#include "inspect/scan.h"
#include "ir/checkpoint.h"
#include "verify/doctor.h"

namespace regauge::doctor {

/// Everything that the families of faults look at.
struct Patient {
  const Checkpoint& checkpoint;
  const inspect::Report& report;
  const inspect::ScanReport& vectors;  ///< of the tensors of rank 1 and of modules with a group index
};

/// Writes down what is found, and makes the commands that mend it.
class Chart {
 public:
  /// `format` is that of the arrays; `path` as the user gave it.
  Chart(std::string path, std::string format, std::string version, bool directory)
      : path_(std::move(path)), format_(std::move(format)), version_(std::move(version)), directory_(directory) {}

  void fault(std::string_view code, std::string message, std::vector<Loader> breaks, std::vector<Cure> cures,
             std::string tensor = {}, std::string file = {});
  void note(std::string_view code, std::string message, std::vector<Loader> breaks, std::vector<Cure> cures);

  /// `regauge convert PATH PATH-mended` into the same format, with these options. Without options it says --fresh.
  Cure rewrite(std::string effect, std::vector<std::string> options = {}) const;
  /// The same into another format.
  Cure convert_to(std::string_view format, std::string effect, std::vector<std::string> options = {}) const;
  /// The checkpoint that this one was made of, converted again.
  Cure convert_original(std::string effect) const;
  /// `regauge graft PATH PATH-mended --part DONOR`.
  Cure graft(std::string_view part, std::string effect) const;
  static Cure no_command(std::string advice) { return {{}, std::move(advice)}; }

  /// Who loads checkpoints of this format.
  std::vector<Loader> loaders() const;
  const std::vector<Ailment>& ailments() const noexcept { return ailments_; }
  std::vector<Ailment> take() { return std::move(ailments_); }

 private:
  void add(Finding finding, std::vector<Loader> breaks, std::vector<Cure> cures);
  std::string target(std::string_view format) const;

  std::string path_;
  std::string format_;
  std::string version_;
  bool directory_;
  std::vector<Ailment> ailments_;
};

/// What a file is when it is not what its name says, by its first bytes.
struct Instead {
  std::string_view code;  ///< "lfs-pointer", "html-page", "file-foreign", "file-empty"
  std::string message;
};
std::optional<Instead> what_instead(std::span<const std::byte> head, std::uint64_t size);

/// "1 norm", "3 norms".
std::string count_of(std::size_t count, std::string_view one, std::string_view many);
/// The module of a weight: its name without ".weight".
std::string_view module_of(const Tensor& tensor);
/// The first four names, then "and N more".
std::string list_of(const std::vector<std::string>& names);

/// Findings of readers, inspect and `verify A` that mean a fault; those that do not are left in `findings`.
void judge_findings(const Patient& patient, Findings& findings, Chart& chart);
/// MTP layers and the vision tower: announced and absent, there and not announced, mmproj files without a tower.
void examine_towers(const Patient& patient, Findings& findings, Chart& chart);
/// Norms shifted twice or not at all, convolutions of two layouts, the F32 pair.
void examine_conventions(const Patient& patient, Findings& findings, Chart& chart);
/// GPTQ: rules against tensors and vLLM's fused names, act-order.
void examine_gptq(const Patient& patient, Findings& findings, Chart& chart);
/// GPTQ: parts of a matrix that vLLM fuses in different encodings.
void examine_fusions(const Patient& patient, Findings& findings, Chart& chart);
/// MLX: what mlx-lm looks for and does not find.
void examine_mlx(const Patient& patient, Findings& findings, Chart& chart);
/// Tokenizer and configuration files that are not what their names say.
void examine_sidecars(const Patient& patient, Findings& findings, Chart& chart);
/// What llama.cpp's loader demands of a GGUF file.
void examine_gguf(const Patient& patient, Findings& findings, Chart& chart);
/// The pre-tokenizer's regex and the token that ends a turn.
void examine_tokenizer(const Patient& patient, Findings& findings, Chart& chart);

/// Why `path` could not be opened: every file of it that is broken, or what `reason` says.
Diagnosis diagnose_unopened(const std::filesystem::path& path, const Error& reason);

}  // namespace regauge::doctor
