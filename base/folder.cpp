#include "base/folder.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

bool is_below(const fs::path& path, const fs::path& folder) {
  const auto [end, rest] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

fs::path resolve(const fs::path& path) {
  std::error_code error;
  fs::path resolved = fs::canonical(path, error);
  if (error) throw Error(ErrorCode::io, "cannot be followed: {}", error.message()).at(path.native());
  return resolved;
}

class DiskFolder final : public Folder {
 public:
  explicit DiskFolder(fs::path path) : Folder(std::move(path)) {}

  std::optional<std::uint64_t> file_bytes(const fs::path& relative) const override {
    std::error_code error;
    if (!fs::is_regular_file(path() / relative, error)) return std::nullopt;
    const auto bytes = fs::file_size(path() / relative, error);
    return error ? std::nullopt : std::optional<std::uint64_t>(bytes);
  }

  File open(const fs::path& relative) const override { return File::open(path() / relative); }

  bool stays_inside(const fs::path& relative) const override {
    const fs::path folder = resolve(path().empty() ? "." : path());
    const fs::path file = resolve(path() / relative);
    if (is_below(file, folder)) return true;
    // The cache of huggingface_hub is the one exception: there a snapshot is made of links to ../../blobs
    // (huggingface/huggingface_hub docs, "Understand caching"), and it is where most people's models are.
    const fs::path snapshots = folder.parent_path();
    return snapshots.filename() == "snapshots" && is_below(file, snapshots.parent_path() / "blobs");
  }
};

}  // namespace

std::string Folder::read_text(const fs::path& relative, std::uint64_t max_bytes) const {
  return regauge::read_text(open(relative), max_bytes);
}

FolderPtr disk_folder(fs::path path) { return std::make_shared<const DiskFolder>(std::move(path)); }

}  // namespace regauge
