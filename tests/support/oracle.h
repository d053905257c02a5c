#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include <gtest/gtest.h>

#include "ir/ggml_type.h"

namespace regauge::testing {

/// The node_modules folder that holds the npm packages of tests/oracle/package.json: the environment variable
/// REGAUGE_NODE_MODULES, else build/oracle/node_modules of the source tree, else nothing.
std::optional<std::filesystem::path> find_node_modules();

/// The block arithmetic of real llama.cpp: libggml-base.so of the npm package @node-llama-cpp/linux-x64, opened at run
/// time. What it answers is by definition what the owner of the ggml formats answers. The library aborts the process on a
/// broken precondition, so this class checks sizes first and throws std::invalid_argument. Safe from any thread, except
/// for the quantizers of the IQ types, which build tables on first use.
class Oracle {
 public:
  /// The one instance, or nullptr when the library is not installed. Throws when it is there but is not the one known.
  static const Oracle* instance();

  /// ggml's own version text.
  std::string version() const;

  /// Every block type but q8_1, for which ggml has no decoder.
  bool can_dequantize(BlockType type) const;
  /// Decodes whole blocks; `out` holds exactly their elements.
  void dequantize(BlockType type, std::span<const std::byte> blocks, std::span<float> out) const;

  /// Whether quantizing to this type needs an importance matrix.
  bool requires_imatrix(BlockType type) const;
  /// ggml_quantize_chunk over whole rows of `row_elements`; `imatrix` is empty or holds row_elements weights. Returns the
  /// bytes written, which is all of `out`.
  std::size_t quantize_chunk(BlockType type, std::span<const float> values, std::span<std::byte> out,
                             std::int64_t row_elements, std::span<const float> imatrix = {}) const;
  /// quantize_row_<type>_ref, the portable quantizer; not every type has one (throws std::invalid_argument then).
  void quantize_reference(BlockType type, std::span<const float> values, std::span<std::byte> out) const;
  /// ggml_validate_row_data: false for NaN or infinite scales.
  bool validate(BlockType type, std::span<const std::byte> blocks) const;

  /// The row conversions of the 16-bit types; both spans have the same size. (ggml picks hardware F16C for f16.)
  void f16_to_f32(std::span<const std::uint16_t> in, std::span<float> out) const;
  void f32_to_f16(std::span<const float> in, std::span<std::uint16_t> out) const;
  void bf16_to_f32(std::span<const std::uint16_t> in, std::span<float> out) const;
  void f32_to_bf16(std::span<const float> in, std::span<std::uint16_t> out) const;

  /// ggml's type table, by its own ids: name ("q4_K"), elements and bytes of one block.
  std::string type_name(std::uint32_t id) const;
  std::int64_t type_block_elements(std::uint32_t id) const;
  std::size_t type_block_bytes(std::uint32_t id) const;

  /// Any other symbol of the library's C interface, or nullptr.
  template <typename Function>
  Function* symbol(const std::string& name) const {
    return reinterpret_cast<Function*>(find(name));
  }

 private:
  explicit Oracle(void* library) : library_(library) {}
  void* find(const std::string& name) const;
  template <typename Function>
  Function* require(const std::string& name) const;

  void* library_;
};

/// True where a missing oracle must fail a test and not skip it: the environment says CI=true.
bool oracle_is_obligatory();

/// Names the oracle, or skips the test visibly (fails it where CI=true) when llama.cpp's library is not installed.
#define REGAUGE_ORACLE_OR_SKIP(variable)                                                              \
  const ::regauge::testing::Oracle* const variable##_found = ::regauge::testing::Oracle::instance();  \
  if (variable##_found == nullptr) {                                                                  \
    if (::regauge::testing::oracle_is_obligatory()) FAIL() << "llama.cpp's library is not installed"; \
    GTEST_SKIP() << "llama.cpp's library not here: run ./dev oracle or set REGAUGE_NODE_MODULES";     \
  }                                                                                                   \
  const ::regauge::testing::Oracle& variable = *variable##_found

}  // namespace regauge::testing
