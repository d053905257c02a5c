#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/format.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndex = "model.safetensors.index.json";

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A file seen longer than it is, with zeros behind its end, so that a header can be read whose data are not all there.
class LengthenedFolder final : public Folder {
 public:
  explicit LengthenedFolder(FolderPtr folder) : Folder(folder->path()), folder_(std::move(folder)) {}

  static constexpr std::uint64_t kAdded = std::uint64_t{1} << 50;

  std::optional<std::uint64_t> file_bytes(const fs::path& relative) const override {
    const auto bytes = folder_->file_bytes(relative);
    return bytes ? std::optional(*bytes + kAdded) : std::nullopt;
  }
  File open(const fs::path& relative) const override {
    const auto file = std::make_shared<const File>(folder_->open(relative));
    return File::virtual_file(file->path(), file->size() + kAdded, file->modified_ns(),
                              [file](std::uint64_t offset, std::span<std::byte> out) {
                                const std::uint64_t rest = offset < file->size() ? file->size() - offset : 0;
                                const auto there = static_cast<std::size_t>(std::min<std::uint64_t>(rest, out.size()));
                                if (there != 0) file->read_at(offset, out.first(there));
                                std::ranges::fill(out.subspan(there), std::byte{0});
                              });
  }
  bool stays_inside(const fs::path& relative) const override { return folder_->stays_inside(relative); }

 private:
  FolderPtr folder_;
};

/// Where the last array of a safetensors header ends in the file; nothing for a header that cannot be read.
std::optional<std::uint64_t> promised_by_safetensors(const File& file) {
  std::uint64_t length = 0;
  if (file.size() < sizeof length) return std::nullopt;
  const std::vector<std::byte> prefix = file.read_range(0, sizeof length);
  for (std::size_t i = 0; i < sizeof length; ++i) length |= std::to_integer<std::uint64_t>(prefix[i]) << (8 * i);
  if (length > kMaxSafetensorsHeaderBytes) return std::nullopt;
  if (length > file.size() - sizeof length) return length + sizeof length;
  try {
    const std::vector<std::byte> raw = file.read_range(sizeof length, length);
    const Json header = parse_json(text_of(raw), file.path());
    if (!header.is_object()) return std::nullopt;
    std::uint64_t end = 0;
    for (const auto& [name, entry] : header.items()) {
      const Json* offsets = entry.is_object() ? find(entry, "data_offsets") : nullptr;
      if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2) continue;
      if (offsets->at(1).is_number_unsigned()) end = std::max(end, offsets->at(1).get<std::uint64_t>());
    }
    return checked_add(end, length + sizeof length);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// The same of a GGUF file; of one of several shards by the headers of all.
std::optional<std::uint64_t> promised_by_gguf(const Source& source) {
  try {
    const auto lengthened = std::make_shared<const LengthenedFolder>(source.folder);
    const Checkpoint checkpoint = find_format("gguf")->open(probe(lengthened, source.file), {});
    const auto file = std::ranges::find(checkpoint.files, source.file.filename().string(), &SourceFile::name);
    if (file == checkpoint.files.end()) return std::nullopt;
    const auto index = static_cast<std::size_t>(file - checkpoint.files.begin());
    std::uint64_t end = file->data_offset;
    for (const StoredArray& array : checkpoint.arrays) {
      if (array.file == index) end = std::max(end, array.offset + array.bytes);
    }
    return end;
  } catch (const Error&) {
    return std::nullopt;
  }
}

class Examination {
 public:
  Examination(const Source& source, const Error& reason)
      : source_(source), reason_(reason), chart_(source.path.string(), "", "", source.is_directory) {}

  std::vector<Ailment> run() {
    if (source_.is_directory) {
      for (const fs::path& entry : source_.entries) {
        if (entry.has_parent_path()) continue;
        if (entry.extension() == ".safetensors" || entry.extension() == ".gguf")
          examine_file(probe(source_.folder, entry));
        if (is_config(entry)) examine_config(probe(source_.folder, entry));
      }
      examine_index();
    } else {
      examine_shards();
    }
    if (chart_.ailments().empty() && reason_.code() == ErrorCode::malformed) tell_reason();
    return chart_.take();
  }

 private:
  static constexpr std::array kAll{Loader::llama_cpp, Loader::vllm, Loader::mlx_lm, Loader::gptqmodel};
  static std::vector<Loader> all() { return {kAll.begin(), kAll.end()}; }

  /// Nothing else brings back bytes that are not there.
  static Cure again() { return Chart::no_command("no command mends this: download the file again"); }
  static Cure pulled() {
    return Chart::no_command("no regauge command mends this: run `git lfs pull`, or download the file");
  }

  void add(std::string_view code, std::string message, const Source& source, Cure cure = again()) {
    chart_.fault(code, std::move(message), all(), {std::move(cure)}, {}, source.file.string());
  }

  static bool is_config(const fs::path& name) {
    return name == "config.json" || name == "quantize_config.json" || name == "quant_config.json";
  }

  /// What nothing above explains: the reader's own words.
  void tell_reason() {
    const fs::path file = fs::path(reason_.file()).filename();
    if (is_config(file)) {
      chart_.fault(
          "config-malformed", reason_.message(), all(),
          {Chart::no_command(fmt::format(
              "no command mends this, for nothing can be read without it: take {} from the original", file.string()))},
          reason_.tensor_name(), file.string());
    } else {
      chart_.fault("file-malformed", reason_.message(), all(), {again()}, reason_.tensor_name(), file.string());
    }
  }

  void examine_config(const Source& source) {
    if (auto what = what_instead(source.head, source.size))
      return add(what->code, std::move(what->message), source, what->code == "lfs-pointer" ? pulled() : again());
    if (source.size > kMaxConfigBytes) return;
    try {
      parse_json(source.folder->read_text(source.file, kMaxConfigBytes), source.file.string(),
                 {.duplicates = JsonDuplicates::keep_last});
    } catch (const Error& error) {
      if (error.code() == ErrorCode::malformed) add("file-malformed", error.message(), source);
    }
  }

  /// A file, or all of those that its name says it is one of.
  void examine_shards() {
    const std::string name = source_.file.filename().string();
    const auto numbers = split_numbers(name);
    if (!numbers) return examine_file(source_);
    for (int shard = 1; shard <= numbers->count; ++shard) {
      const fs::path other =
          source_.file.parent_path() /
          fmt::format("{}-{:05}-of-{:05}.gguf", name.substr(0, numbers->stem_bytes), shard, numbers->count);
      if (source_.folder->has_file(other)) {
        examine_file(probe(source_.folder, other));
      } else {
        chart_.fault("shard-missing",
                     fmt::format("is not there; {} is one of {} shards", excerpt(name), numbers->count),
                     {Loader::llama_cpp}, {again()}, {}, excerpt(other.filename().string()));
      }
    }
  }

  struct SplitNumbers {
    std::size_t stem_bytes = 0;
    int count = 0;
  };

  /// Of "NAME-00001-of-00003.gguf". Source: ggml-org/llama.cpp src/llama.cpp, llama_split_path.
  static std::optional<SplitNumbers> split_numbers(std::string_view name) {
    constexpr std::string_view kForm = "-00000-of-00000.gguf";
    if (name.size() <= kForm.size()) return std::nullopt;
    SplitNumbers numbers{name.size() - kForm.size(), 0};
    const std::string_view tail = name.substr(numbers.stem_bytes);
    for (std::size_t i = 0; i < kForm.size(); ++i) {
      const bool digit = tail[i] >= '0' && tail[i] <= '9';
      if (kForm[i] == '0' ? !digit : tail[i] != kForm[i]) return std::nullopt;
      if (i > kForm.find("of") && digit) numbers.count = numbers.count * 10 + (tail[i] - '0');
    }
    constexpr int kMostShards = 10'000;  // what five digits could say would be a listing of its own
    return numbers.count >= 1 && numbers.count <= kMostShards ? std::optional(numbers) : std::nullopt;
  }

  void examine_file(const Source& source) {
    const std::string_view text = text_of(source.head);
    const bool is_gguf = text.starts_with("GGUF");
    if (auto what = what_instead(source.head, source.size)) {
      const bool pointer = what->code == "lfs-pointer";
      return add(what->code, std::move(what->message), source, pointer ? pulled() : again());
    }
    // Whatever an .safetensors file begins with is the length of its header; anything else has to say what it is.
    if (!is_gguf && source.file.extension() != ".safetensors") return;
    const auto promised = is_gguf ? promised_by_gguf(source) : promised_by_safetensors(source.open());
    if (promised && *promised > source.size) {
      return add("file-truncated",
                 fmt::format("{} bytes of {}: {} are not there", source.size, *promised, *promised - source.size),
                 source);
    }
    try {
      const Format& format = *find_format(is_gguf ? "gguf" : "safetensors");
      OpenOptions alone;
      alone.find_adapter = false;
      note_arrays(format.open(source, alone));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::malformed) return;
      // One of several: what is wrong with another one is said of that.
      if (is_gguf && fs::path(error.file()).filename() != source.file.filename()) return;
      std::string message = error.message();
      // The reader checks what llama.cpp indexes without looking: one list by the other's length.
      if (is_gguf && message.starts_with("key 'tokenizer.ggml.") &&
          message.find(" elements for ") != std::string::npos) {
        const Chart gguf(source.path.string(), "gguf", "", false);
        chart_.fault("tokenizer-arrays-unequal", std::move(message), {Loader::llama_cpp},
                     {gguf.convert_original("writes lists of one length")}, {}, source.file.string());
        return;
      }
      if (const auto offset = error.byte_offset()) message += fmt::format(" (at byte {})", *offset);
      chart_.fault("file-malformed", std::move(message), all(), {again()}, error.tensor_name(), source.file.string());
    }
  }

  void note_arrays(const Checkpoint& checkpoint) {
    for (const StoredArray& array : checkpoint.arrays) {
      const auto [other, fresh] = arrays_.emplace(array.name, checkpoint.files[array.file].name);
      if (fresh) continue;
      chart_.fault(
          "array-twice", fmt::format("lies in {} and in {}", other->second, checkpoint.files[array.file].name), all(),
          {Chart::no_command("no command mends this: the files are of two downloads; keep those that the index "
                             "lists")},
          excerpt(array.name));
    }
  }

  /// Shards that are not there, and arrays that are in none of those that are.
  void examine_index() {
    if (!source_.folder->has_file(kIndex)) return;
    Json index;
    try {
      index = parse_json(source_.folder->read_text(kIndex, kMaxConfigBytes), std::string(kIndex));
    } catch (const Error& error) {
      chart_.fault("file-malformed", error.message(), all(), {again()}, {}, std::string(kIndex));
      return;
    }
    const Json* map = index.is_object() ? find(index, "weight_map") : nullptr;
    if (map == nullptr || !map->is_object()) return;
    const bool all_read = chart_.ailments().empty();
    std::map<std::string, std::size_t> missing;
    std::vector<std::string> absent;
    for (const auto& [array, shard] : map->items()) {
      if (!shard.is_string()) continue;
      const auto& name = shard.get_ref<const std::string&>();
      if (!source_.folder->has_file(name)) {
        ++missing[name];
      } else if (all_read && !arrays_.contains(array)) {
        absent.push_back(array);
      }
    }
    for (const auto& [shard, count] : missing) {
      chart_.fault("shard-missing",
                   fmt::format("is not there; the index has {} in it", count_of(count, "array", "arrays")),
                   {Loader::vllm, Loader::mlx_lm, Loader::gptqmodel}, {again()}, {}, excerpt(shard));
    }
    if (!absent.empty()) {
      chart_.fault(
          "index-array-absent",
          fmt::format("{} that the index lists in no shard: {}", count_of(absent.size(), "array is", "arrays are"),
                      list_of(absent)),
          {Loader::vllm, Loader::gptqmodel},
          {Chart::no_command("no command mends this: download the shards again; where they are right, remove the "
                             "index and `regauge convert --fresh` writes a new one")},
          {}, std::string(kIndex));
    }
  }

  const Source& source_;
  const Error& reason_;
  Chart chart_;
  std::map<std::string, std::string> arrays_;  ///< and the file that has them
};

}  // namespace

Diagnosis diagnose_unopened(const fs::path& path, const Error& reason) {
  Diagnosis diagnosis;
  diagnosis.path = path.string();
  if (reason.code() == ErrorCode::io) throw reason;
  const Source source = probe(path);  // throws for a path that is not there
  diagnosis.ailments = Examination(source, reason).run();
  if (diagnosis.ailments.empty()) throw reason;
  return diagnosis;
}

}  // namespace regauge::doctor
