#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace regauge {

/// An importance matrix: how much each input column of a weight matters, measured as the mean square of what went through
/// it. Names are those of GGUF tensors.
class Importance {
 public:
  /// Reads what llama-imatrix writes: a GGUF file of sums and counts, or the older .dat. Throws Error{malformed} for
  /// what llama-quantize refuses (no entries, no metadata, sums without counts, numbers that are not finite), and for sizes
  /// that do not fit together; Error{not_found|io} when the file cannot be read.
  /// Sources: ggml-org/llama.cpp common/imatrix-loader.cpp, tools/quantize/quantize.cpp.
  static Importance read(const std::filesystem::path& path);

  /// The weights of a tensor: one a column, the matrices of a stack (experts) in turn; empty without an entry.
  std::span<const float> of(std::string_view name) const;
  /// The same for a tensor of these sizes. Throws Error{malformed} when the entry has another size, as llama-quantize
  /// does: it is of another model. Only token_embd.weight then counts as without an entry, since an imatrix of a tied
  /// model has an entry by rows for it. Source: ggml-org/llama.cpp src/llama-quant.cpp.
  std::span<const float> of(std::string_view name, std::int64_t columns, std::int64_t matrices) const;

  /// Number of entries.
  std::size_t count() const noexcept { return entries_.size(); }
  /// Names of the entries, ascending.
  std::vector<std::string> names() const;
  /// The texts that were run, as their files were called.
  const std::vector<std::string>& datasets() const noexcept { return datasets_; }
  /// Chunks of text that were run; 0: not said.
  std::uint32_t chunks() const noexcept { return chunks_; }
  /// As the path was given.
  const std::string& path() const noexcept { return path_; }

 private:
  void read_gguf(const std::filesystem::path& path);
  void read_legacy(const std::filesystem::path& path);

  std::string path_;
  std::map<std::string, std::vector<float>, std::less<>> entries_;
  std::vector<std::string> datasets_;
  std::uint32_t chunks_ = 0;
};

}  // namespace regauge
