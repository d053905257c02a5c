#include "formats/format.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

// A model directory has some dozens of files. Whoever names / or a home folder gets an answer at once.
constexpr std::size_t kMaxEntries = 100'000;

/// Folders that tools keep for themselves inside a download: version control, and the bookkeeping of `hf download`.
bool is_tool_folder(const fs::path& path) { return path.filename() == ".git" || path.filename() == ".cache"; }

std::vector<fs::path> list_files(const fs::path& root) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator walk(root, error);
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    std::error_code dangling;  // a symbolic link to nothing is no file, and no reason to stop
    if (walk->is_regular_file(dangling)) {
      files.push_back(walk->path().lexically_relative(root));
    } else if (is_tool_folder(walk->path())) {
      walk.disable_recursion_pending();
    }
    if (files.size() > kMaxEntries) {
      throw Error(ErrorCode::invalid, "holds more than {} files and is no checkpoint", kMaxEntries).at(root.native());
    }
  }
  if (error) throw Error(ErrorCode::io, "cannot be listed: {}", error.message()).at(root.native());
  std::ranges::sort(files, {}, [](const fs::path& path) -> const std::string& { return path.native(); });
  return files;
}

bool starts_with_word(std::string_view text, std::string_view lower_case) {
  const auto lower = [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); };
  return text.size() >= lower_case.size() &&
         std::ranges::equal(text.substr(0, lower_case.size()), lower_case, {}, lower);
}

struct Signature {
  std::string_view bytes;
  std::string_view meaning;
};

// Sources: the first bytes as their owners document them (PKWARE APPNOTE 4.3.7; Python pickletools PROTO; RFC 1952; RFC
// 8878; ggml-org/llama.cpp convert_legacy_llama.py for the ancestors of GGUF; git-lfs docs/spec.md).
constexpr std::array kSignatures = {
    Signature{"version https://git-lfs.github.com/spec/",
              "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
    Signature{"version https://hawser.github.com/spec/",
              "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
    Signature{"PK\x03\x04", "a zip archive, perhaps a PyTorch .bin or .pt file: convert it to safetensors first"},
    Signature{"\x80\x02", "a Python pickle, perhaps an old PyTorch file: convert it to safetensors first"},
    Signature{"\x1f\x8b", "a gzip archive: unpack it first"},
    Signature{"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"},
    Signature{"FUGG", "a GGUF file whose magic is reversed, which no GGUF file has, big endian ones included"},
    Signature{"lmgg", "a GGML file from before GGUF: convert it with an older llama.cpp first"},
    Signature{"fmgg", "a GGMF file from before GGUF: convert it with an older llama.cpp first"},
    Signature{"tjgg", "a GGJT file from before GGUF: convert it with an older llama.cpp first"},
};

}  // namespace

Source probe(const fs::path& path) {
  Source source;
  source.path = path;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    source.is_directory = true;
    source.entries = list_files(path);
    source.folder = disk_folder(path);
    return source;
  }
  return probe(disk_folder(path.parent_path()), path.filename());
}

Source probe(FolderPtr folder, const fs::path& relative) {
  const File file = folder->open(relative);
  Source source;
  source.path = folder->path() / relative;
  source.folder = std::move(folder);
  source.file = relative;
  source.size = file.size();
  source.head = file.read_range(0, std::min<std::uint64_t>(file.size(), Source::kHeadBytes));
  return source;
}

std::optional<std::string> describe_foreign(std::span<const std::byte> head) {
  if (head.empty()) return "an empty file";
  const std::string_view text = text_of(head);
  for (const Signature& signature : kSignatures) {
    if (text.starts_with(signature.bytes)) return std::string(signature.meaning);
  }
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return std::nullopt;
  const std::string_view visible = text.substr(first);
  if (starts_with_word(visible, "<!doctype html") || starts_with_word(visible, "<html")) {
    return "an HTML page, perhaps an error or login page saved in place of the file";
  }
  if (starts_with_word(visible, "<?xml"))
    return "an XML text, perhaps a storage service's error saved in place of the file";
  return std::nullopt;
}

std::uint64_t ArrayPlan::row_bytes() const {
  const auto columns = static_cast<std::uint64_t>(shape.columns());
  if (const auto* block = std::get_if<BlockType>(&element)) {
    const auto elements = static_cast<std::uint64_t>(block_elements(*block));
    const auto bytes = checked_mul(columns / elements, static_cast<std::uint64_t>(block_bytes(*block)));
    if (columns % elements == 0 && bytes) return *bytes;
  } else if (const auto bytes = storage_bytes(std::get<DType>(element), columns)) {
    return *bytes;
  }
  throw Error(ErrorCode::invalid, "a row of {} elements is no whole number of bytes or blocks", columns).tensor(name);
}

std::uint64_t ArrayPlan::bytes() const {
  if (!shape.checked_elements()) {
    throw Error(ErrorCode::invalid, "shape {} has too many elements", to_string(shape)).tensor(name);
  }
  // Counted over all elements where that is possible: [2, 1] of a 4-bit type is one byte, though half of it is a row.
  if (const auto* dtype = std::get_if<DType>(&element)) {
    if (const auto total = storage_bytes(*dtype, static_cast<std::uint64_t>(shape.elements()))) return *total;
  }
  const auto total = checked_mul(static_cast<std::uint64_t>(shape.rows()), row_bytes());
  if (!total) throw Error(ErrorCode::invalid, "shape {} has too many bytes", to_string(shape)).tensor(name);
  return *total;
}

}  // namespace regauge
