#include "tests/support/oracle_quantize.h"

#include <cstring>
#include <map>
#include <stdexcept>
#include <type_traits>

#include <dlfcn.h>

#include "tests/support/oracle.h"

namespace regauge::testing {
namespace {

constexpr const char* kFolder = "@node-llama-cpp/linux-x64/bins/linux-x64";
constexpr std::int32_t kNoType = 43;  // GGML_TYPE_COUNT of ggml 0.25.1: "unset" in the parameters

// The structs of llama.cpp v0.5.0's llama.h as they lie in memory on x86-64. The names of its fields are not ours to
// link against, so what is known is proved before use: the defaults below, and the golden files that the tests make.
struct QuantizeParams {
  std::int32_t threads;
  std::int32_t file_type;
  std::int32_t output_tensor_type;
  std::int32_t token_embedding_type;
  bool allow_requantize;
  bool quantize_output_tensor;
  bool only_copy;
  bool pure;
  bool keep_split;
  bool dry_run;
  const void* importance;
  const void* keys;
  const void* tensor_types;
  const void* prune_layers;
  std::size_t buffer_bytes;
};
static_assert(sizeof(QuantizeParams) == 64);

struct ImportanceData {
  const char* name;
  const float* data;
  std::size_t size;
};

struct TensorType {
  const char* pattern;
  std::int32_t type;
};

struct KeyValue {
  std::int32_t tag;  ///< 0 integer, 1 float, 2 bool, 3 string: the order of the variant's alternatives
  char name[128];
  union {
    std::int64_t integer;
    double number;
    bool flag;
    char text[128];
  };
};
static_assert(sizeof(KeyValue) == 264);

struct Llama {
  QuantizeParams (*default_params)();
  std::uint32_t (*quantize)(const char*, const char*, const QuantizeParams*);
  void (*set_log)(void (*)(int, const char*, void*), void*);
};

template <typename Function>
void resolve(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) throw std::runtime_error(std::string("oracle: llama.cpp's library has no ") + name);
}

void* open_library(const std::filesystem::path& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(std::string("oracle: ") + dlerror());
  return library;
}

const Llama& llama() {
  // Never closed, as the block oracle is not.
  static const Llama loaded = [] {
    const auto modules = find_node_modules();
    if (!modules) throw std::runtime_error("oracle: llama.cpp's libraries are not installed");
    const std::filesystem::path folder = *modules / kFolder;
    void* ggml = open_library(folder / "libggml.v0.5.0.so");
    void* library = open_library(folder / "libllama.v0.5.0.so");
    Llama found{};
    resolve(library, "llama_model_quantize_default_params", found.default_params);
    resolve(library, "llama_model_quantize", found.quantize);
    resolve(library, "llama_log_set", found.set_log);
    const QuantizeParams defaults = found.default_params();
    if (defaults.output_tensor_type != kNoType || defaults.token_embedding_type != kNoType ||
        !defaults.quantize_output_tensor || defaults.only_copy || defaults.importance != nullptr ||
        defaults.prune_layers != nullptr) {
      throw std::runtime_error("oracle: the parameters of llama_model_quantize are laid out in another way");
    }
    found.set_log([](int, const char*, void*) {}, nullptr);  // it tells about every backend that it loads
    void (*load_backends)(const char*) = nullptr;
    void (*start)() = nullptr;
    resolve(ggml, "ggml_backend_load_all_from_path", load_backends);
    resolve(library, "llama_backend_init", start);
    load_backends(folder.c_str());
    start();
    return found;
  }();
  return loaded;
}

void copy_text(char (&to)[128], const std::string& text) {
  if (text.size() >= sizeof to) throw std::invalid_argument("oracle: a key or text has 127 bytes at most");
  std::memcpy(to, text.c_str(), text.size() + 1);
}

KeyValue key_value(const OracleQuantizeOptions::Key& key) {
  KeyValue entry{};
  entry.tag = static_cast<std::int32_t>(key.value.index());
  copy_text(entry.name, key.name);
  std::visit(
      [&](const auto& value) {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, std::int64_t>) {
          entry.integer = value;
        } else if constexpr (std::is_same_v<Value, double>) {
          entry.number = value;
        } else if constexpr (std::is_same_v<Value, bool>) {
          entry.flag = value;
        } else {
          copy_text(entry.text, value);
        }
      },
      key.value);
  return entry;
}

/// The options as C arrays, each ended by an entry without a name.
struct Arrays {
  explicit Arrays(const OracleQuantizeOptions& options) {
    for (const auto& entry : options.importance) {
      importance.push_back({entry.tensor.c_str(), entry.values.data(), entry.values.size()});
    }
    for (const auto& entry : options.tensor_types) {
      tensor_types.push_back({entry.first.c_str(), static_cast<std::int32_t>(entry.second)});
    }
    for (const auto& key : options.keys) keys.push_back(key_value(key));
    importance.push_back({});
    tensor_types.push_back({});
    keys.push_back({});
  }

  std::vector<ImportanceData> importance;
  std::vector<TensorType> tensor_types;
  std::vector<KeyValue> keys;
};

QuantizeParams params_of(const OracleQuantizeOptions& options, const Arrays& arrays, std::uint32_t file_type) {
  QuantizeParams params = llama().default_params();
  params.threads = options.threads;
  params.file_type = static_cast<std::int32_t>(file_type);
  params.output_tensor_type = static_cast<std::int32_t>(options.output_tensor_type.value_or(kNoType));
  params.token_embedding_type = static_cast<std::int32_t>(options.token_embedding_type.value_or(kNoType));
  params.allow_requantize = options.allow_requantize;
  params.quantize_output_tensor = options.quantize_output_tensor;
  params.only_copy = options.only_copy;
  params.pure = options.pure;
  params.keep_split = options.keep_split;
  // A null pointer and an empty array are not the same to the library: an empty imatrix still counts as one.
  if (!options.importance.empty()) params.importance = arrays.importance.data();
  if (!options.keys.empty()) params.keys = arrays.keys.data();
  if (!options.tensor_types.empty()) params.tensor_types = arrays.tensor_types.data();
  return params;
}

}  // namespace

std::uint32_t oracle_file_type(const std::string& name) {
  static const std::map<std::string, std::uint32_t> types = {
      {"F32", 0},     {"F16", 1},     {"Q4_0", 2},       {"Q4_1", 3},    {"Q8_0", 7},     {"Q5_0", 8},
      {"Q5_1", 9},    {"Q2_K", 10},   {"Q3_K_S", 11},    {"Q3_K_M", 12}, {"Q3_K_L", 13},  {"Q4_K_S", 14},
      {"Q4_K_M", 15}, {"Q5_K_S", 16}, {"Q5_K_M", 17},    {"Q6_K", 18},   {"IQ2_XXS", 19}, {"IQ2_XS", 20},
      {"Q2_K_S", 21}, {"IQ3_XS", 22}, {"IQ3_XXS", 23},   {"IQ1_S", 24},  {"IQ4_NL", 25},  {"IQ3_S", 26},
      {"IQ3_M", 27},  {"IQ2_S", 28},  {"IQ2_M", 29},     {"IQ4_XS", 30}, {"IQ1_M", 31},   {"BF16", 32},
      {"TQ1_0", 36},  {"TQ2_0", 37},  {"MXFP4_MOE", 38}, {"Q1_0", 40},   {"Q2_0", 41},
  };
  const auto found = types.find(name);
  if (found == types.end()) throw std::invalid_argument("oracle: no file type is called " + name);
  return found->second;
}

bool oracle_quantize(const std::filesystem::path& in, const std::filesystem::path& out, std::uint32_t file_type,
                     const OracleQuantizeOptions& options, std::string* said) {
  const Llama& library = llama();
  const Arrays arrays(options);
  const QuantizeParams params = params_of(options, arrays, file_type);
  std::string log;
  library.set_log([](int, const char* text, void* to) { static_cast<std::string*>(to)->append(text); }, &log);
  const std::uint32_t status = library.quantize(in.c_str(), out.c_str(), &params);
  library.set_log([](int, const char*, void*) {}, nullptr);
  if (said != nullptr) *said = log;
  return status == 0;
}

}  // namespace regauge::testing
