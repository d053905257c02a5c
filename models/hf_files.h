#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "ir/checkpoint.h"
#include "ir/dtype.h"

// The text files of a Hugging Face directory, made anew from the keys of a GGUF file.

namespace regauge {

/// A small file beside the arrays.
struct TextFile {
  std::string name;  ///< relative to the directory
  std::string text;
};

/// What has to be known beside a GGUF file's own keys to write the files of a directory.
struct HfFacts {
  Dialect target = Dialect::hf;        ///< hf (safetensors, GPTQ) or mlx, whose tools lay a directory out otherwise
  int mtp_layers = 0;                  ///< counted from the tensors that are written, never from the keys
  DType dtype = DType::bf16;           ///< of the dense tensors, a float type: what config.json calls dtype
  const Checkpoint* vision = nullptr;  ///< the mmproj file; null when no vision tower is written
};

/// `json` as Python's json.dumps(json, indent=indent, ensure_ascii=False) prints it, without a line feed at the end.
std::string render_json(const Json& json, int indent);

/// A number of a GGUF key as a person wrote it before it became 32 bits: the shortest decimal that rounds to it (0.95,
/// not 0.949999988...). Numbers that are none of 32 bits stay as they are. Throws Error{malformed} naming `key` for NaN
/// and infinities, which JSON cannot say.
double decimal(double value, std::string_view key);

/// Adds one note per file with the keys of `gguf` that `is_known` does not know: the directory says nothing of them.
/// Keys of how files were split and of regauge's own count as known.
void note_left_out_keys(const Checkpoint& gguf, const std::function<bool(std::string_view)>& is_known,
                        Findings& findings);

/// Adds the finding that `what` was written without a key that says so. `key` names the one entry it is about, or is
/// empty.
void note_guess(Findings& findings, Severity severity, std::string_view code, std::string what, std::string_view file,
                std::string_view key = {});

}  // namespace regauge
