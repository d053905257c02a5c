#include "tests/support/oracle_imatrix.h"

#include <stdexcept>

#include <dlfcn.h>

#include "tests/support/oracle.h"

namespace regauge::testing {
namespace {

// The loader is C++, so both its name and its struct are as the compiler of the package made them: libstdc++'s containers
// on x86-64, laid out as ours are. Source: ggml-org/llama.cpp common/imatrix-loader.h. The room at the end is for fields
// that a release may append.
struct Loaded {
  std::map<std::string, OracleImatrix::Entry> entries;
  std::vector<std::string> datasets;
  std::int32_t chunk_count = 0;
  std::int32_t chunk_size = 0;
  bool is_legacy = false;
  bool has_metadata = false;
  char room[64] = {};
};
constexpr const char* kLoader =
    "_Z19common_imatrix_loadRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEER14common_imatrix";
constexpr const char* kLibrary = "@node-llama-cpp/linux-x64/bins/linux-x64/libllama-common.so";

}  // namespace

std::optional<OracleImatrix> oracle_read_imatrix(const std::filesystem::path& path) {
  const auto modules = find_node_modules();
  if (!modules) throw std::runtime_error("oracle: llama.cpp's libraries are not installed");
  void* library = dlopen((*modules / kLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(std::string("oracle: ") + dlerror());
  auto* load = reinterpret_cast<bool (*)(const std::string&, Loaded&)>(dlsym(library, kLoader));
  if (load == nullptr) throw std::runtime_error("oracle: llama.cpp's library has no loader of importance matrices");
  Loaded loaded;
  if (!load(path.string(), loaded)) return std::nullopt;
  return OracleImatrix{loaded.entries, loaded.datasets, loaded.chunk_count, loaded.is_legacy, loaded.has_metadata};
}

}  // namespace regauge::testing
