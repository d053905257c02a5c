#include "tests/support/oracle.h"

#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include <dlfcn.h>

namespace regauge::testing {
namespace {

constexpr const char* kLibrary = "@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so";

void check(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("oracle: " + what);
}

std::int64_t block_count(BlockType type, std::size_t bytes) {
  const auto size = static_cast<std::size_t>(block_bytes(type));
  check(bytes % size == 0, "bytes are not whole blocks");
  return static_cast<std::int64_t>(bytes / size);
}

// ggml spells symbols as it spells type names: dequantize_row_q4_K.
std::string symbol_of(std::string_view before, BlockType type, std::string_view after = {}) {
  return std::string(before) + std::string(ggml_type(type).name) + std::string(after);
}

int id_of(BlockType type) { return static_cast<int>(type); }

}  // namespace

std::optional<std::filesystem::path> find_node_modules() {
  std::filesystem::path path = std::filesystem::path(REGAUGE_SOURCE_DIR) / "build/oracle/node_modules";
  if (const char* named = std::getenv("REGAUGE_NODE_MODULES"); named != nullptr && *named != '\0') path = named;
  if (std::filesystem::is_directory(path)) return path;
  return std::nullopt;
}

bool oracle_is_obligatory() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string_view(ci) == "true";
}

const Oracle* Oracle::instance() {
  // Never closed: the quantizers keep tables, and the process ends anyway.
  static const Oracle* const oracle = []() -> const Oracle* {
    const auto folder = find_node_modules();
    if (!folder || !std::filesystem::exists(*folder / kLibrary)) return nullptr;
    void* library = dlopen((*folder / kLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(std::string("oracle: ") + dlerror());
    return new Oracle(library);
  }();
  return oracle;
}

void* Oracle::find(const std::string& name) const { return dlsym(library_, name.c_str()); }

template <typename Function>
Function* Oracle::require(const std::string& name) const {
  auto* function = symbol<Function>(name);
  check(function != nullptr, "llama.cpp's library has no " + name);
  return function;
}

std::string Oracle::version() const { return require<const char*()>("ggml_version")(); }

bool Oracle::can_dequantize(BlockType type) const { return find(symbol_of("dequantize_row_", type)) != nullptr; }

void Oracle::dequantize(BlockType type, std::span<const std::byte> blocks, std::span<float> out) const {
  const auto elements = block_count(type, blocks.size()) * block_elements(type);
  check(out.size() == static_cast<std::size_t>(elements), "output does not hold exactly the elements");
  require<void(const void*, float*, std::int64_t)>(symbol_of("dequantize_row_", type))(blocks.data(), out.data(),
                                                                                       elements);
}

bool Oracle::requires_imatrix(BlockType type) const {
  return require<bool(int)>("ggml_quantize_requires_imatrix")(id_of(type));
}

std::size_t Oracle::quantize_chunk(BlockType type, std::span<const float> values, std::span<std::byte> out,
                                   std::int64_t row_elements, std::span<const float> imatrix) const {
  check(row_elements > 0 && row_elements % block_elements(type) == 0, "a row is not whole blocks");
  const auto width = static_cast<std::size_t>(row_elements);
  check(values.size() % width == 0, "values are not whole rows");
  check(imatrix.empty() || imatrix.size() == width, "the importance matrix does not have one weight per column");
  check(!imatrix.empty() || !requires_imatrix(type), "this type needs an importance matrix");
  const auto blocks = values.size() / static_cast<std::size_t>(block_elements(type));
  check(out.size() == blocks * static_cast<std::size_t>(block_bytes(type)), "output does not hold exactly the blocks");
  using Quantize = std::size_t(int, const float*, void*, std::int64_t, std::int64_t, std::int64_t, const float*);
  return require<Quantize>("ggml_quantize_chunk")(id_of(type), values.data(), out.data(), 0,
                                                  static_cast<std::int64_t>(values.size() / width), row_elements,
                                                  imatrix.empty() ? nullptr : imatrix.data());
}

void Oracle::quantize_reference(BlockType type, std::span<const float> values, std::span<std::byte> out) const {
  const auto elements = block_count(type, out.size()) * block_elements(type);
  check(values.size() == static_cast<std::size_t>(elements), "output does not hold exactly the blocks");
  require<void(const float*, void*, std::int64_t)>(symbol_of("quantize_row_", type, "_ref"))(values.data(), out.data(),
                                                                                             elements);
}

bool Oracle::validate(BlockType type, std::span<const std::byte> blocks) const {
  return require<bool(int, const void*, std::size_t)>("ggml_validate_row_data")(id_of(type), blocks.data(),
                                                                                blocks.size());
}

void Oracle::f16_to_f32(std::span<const std::uint16_t> in, std::span<float> out) const {
  check(in.size() == out.size(), "sizes differ");
  require<void(const std::uint16_t*, float*, std::int64_t)>("ggml_fp16_to_fp32_row")(
      in.data(), out.data(), static_cast<std::int64_t>(in.size()));
}

void Oracle::f32_to_f16(std::span<const float> in, std::span<std::uint16_t> out) const {
  check(in.size() == out.size(), "sizes differ");
  require<void(const float*, std::uint16_t*, std::int64_t)>("ggml_fp32_to_fp16_row")(
      in.data(), out.data(), static_cast<std::int64_t>(in.size()));
}

void Oracle::bf16_to_f32(std::span<const std::uint16_t> in, std::span<float> out) const {
  check(in.size() == out.size(), "sizes differ");
  require<void(const std::uint16_t*, float*, std::int64_t)>("ggml_bf16_to_fp32_row")(
      in.data(), out.data(), static_cast<std::int64_t>(in.size()));
}

void Oracle::f32_to_bf16(std::span<const float> in, std::span<std::uint16_t> out) const {
  check(in.size() == out.size(), "sizes differ");
  require<void(const float*, std::uint16_t*, std::int64_t)>("ggml_fp32_to_bf16_row")(
      in.data(), out.data(), static_cast<std::int64_t>(in.size()));
}

std::string Oracle::type_name(std::uint32_t id) const {
  return require<const char*(int)>("ggml_type_name")(static_cast<int>(id));
}

std::int64_t Oracle::type_block_elements(std::uint32_t id) const {
  return require<std::int64_t(int)>("ggml_blck_size")(static_cast<int>(id));
}

std::size_t Oracle::type_block_bytes(std::uint32_t id) const {
  return require<std::size_t(int)>("ggml_type_size")(static_cast<int>(id));
}

}  // namespace regauge::testing
