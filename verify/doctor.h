#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "inspect/scan.h"

namespace regauge {

/// Software that takes a checkpoint as it is, and that a fault may break.
enum class Loader : std::uint8_t { llama_cpp, vllm, mlx_lm, gptqmodel };

/// "llama.cpp", "vLLM", "mlx-lm", "GPTQModel".
std::string_view name(Loader loader);

/// A way out of a fault.
struct Cure {
  /// Words of a command line that begins with "regauge"; empty when no command mends the fault. A word in capitals stands
  /// for what only the user has: DONOR, ORIGINAL.
  std::vector<std::string> command;
  std::string effect;  ///< what the command does, or what else there is to do
};

/// Something that is wrong (Severity::fault), or that some loader does not take although it is meant so (Severity::note).
struct Ailment {
  Finding finding;
  std::vector<Loader> breaks;
  std::vector<Cure> cures;
};

struct Diagnosis {
  std::string path;
  std::string format;  ///< "gptq", "gguf" ...; empty when the path could not be opened
  std::vector<Ailment> ailments;
  Findings remarks;  ///< of readers and inspect that are no fault
  std::uint64_t tensors = 0;
  std::uint64_t values = 0;  ///< decoded

  bool healthy() const;
};

struct DoctorOptions {
  int threads = 0;  ///< workers; 0: one for each core
  inspect::ScanProgress progress = {};
  const std::atomic<bool>* cancel = nullptr;  ///< Error{io} when it becomes true
};

/// The codes of all ailments that there are, in bytewise order; docs/doctor.md explains each.
std::span<const std::string_view> ailment_codes();

/// Looks for the faults of docs/doctor.md: reads headers, the files beside them, and every value once. What cannot be opened
/// because its bytes are broken is a diagnosis too. Throws Error{not_found|io|invalid|unsupported} for a path that is not
/// there, cannot be read or is no checkpoint at all.
Diagnosis diagnose(const std::filesystem::path& path, const DoctorOptions& options = {});

}  // namespace regauge
