#include "verify/checksum.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/text.h"
#include "convert/workers.h"

namespace regauge {
namespace {

constexpr std::size_t kReadBytes = std::size_t{4} << 20;
constexpr std::array kAlgorithms{DigestAlgorithm::xxh3_128, DigestAlgorithm::xxh64, DigestAlgorithm::sha1,
                                 DigestAlgorithm::sha256, DigestAlgorithm::uuid};

/// A UUID of version 5 in the namespace of llama-gguf-hash. Source: ggml-org/llama.cpp examples/gguf-hash/gguf-hash.cpp,
/// UUID_NAMESPACE_LLAMA_CPP.
class Uuid {
 public:
  Uuid() { sha1_.update(std::as_bytes(std::span(kNamespace))); }
  void update(std::span<const std::byte> bytes) { sha1_.update(bytes); }
  std::string value() const {
    const Sha1::Value digest = sha1_.value();
    std::array<std::byte, 16> uuid{};
    std::copy_n(digest.begin(), uuid.size(), uuid.begin());
    uuid[6] = (uuid[6] & std::byte{0x0F}) | std::byte{0x50};
    uuid[8] = (uuid[8] & std::byte{0x3F}) | std::byte{0x80};
    const std::string text = hex(uuid);
    return fmt::format("{}-{}-{}-{}-{}", text.substr(0, 8), text.substr(8, 4), text.substr(12, 4), text.substr(16, 4),
                       text.substr(20));
  }

 private:
  static constexpr std::array<std::uint8_t, 16> kNamespace{0xEF, 0x00, 0x12, 0x06, 0xDA, 0xDC, 0x5F, 0x6D,
                                                           0xA1, 0x5F, 0x33, 0x59, 0xE5, 0x77, 0xD4, 0xE5};
  Sha1 sha1_;
};

using Digest = std::variant<Xxh3_128, Xxh64, Sha1, Sha256, Uuid>;

Digest make_digest(DigestAlgorithm algorithm) {
  switch (algorithm) {
    case DigestAlgorithm::xxh3_128: return Xxh3_128();
    case DigestAlgorithm::xxh64: return Xxh64();
    case DigestAlgorithm::sha1: return Sha1();
    case DigestAlgorithm::sha256: return Sha256();
    case DigestAlgorithm::uuid: break;
  }
  return Uuid();
}

std::string text_of(const Digest& digest) {
  struct Text {
    std::string operator()(const Uuid& uuid) const { return uuid.value(); }
    std::string operator()(const Xxh3_128& xxh) const { return hex(xxh.value()); }
    std::string operator()(const Xxh64& xxh) const { return hex(xxh.value()); }
    std::string operator()(const Sha1& sha) const { return hex(sha.value()); }
    std::string operator()(const Sha256& sha) const { return hex(sha.value()); }
  };
  return std::visit(Text(), digest);
}

/// Several digests of the same bytes.
class Digests {
 public:
  explicit Digests(std::span<const DigestAlgorithm> algorithms) {
    for (const DigestAlgorithm algorithm : algorithms) digests_.emplace(algorithm, make_digest(algorithm));
  }
  void update(std::span<const std::byte> bytes) {
    for (auto& entry : digests_) std::visit([&](auto& digest) { digest.update(bytes); }, entry.second);
  }
  DigestTexts texts() const {
    DigestTexts texts;
    for (const auto& [algorithm, digest] : digests_) texts.emplace(algorithm, text_of(digest));
    return texts;
  }

 private:
  std::map<DigestAlgorithm, Digest> digests_;
};

std::string label_of(const Checkpoint& checkpoint, const std::string& file) {
  if (checkpoint.is_directory()) return (std::filesystem::path(checkpoint.path) / file).string();
  if (file == checkpoint.entry_file) return checkpoint.path;
  return std::filesystem::path(checkpoint.path).replace_filename(file).string();
}

class Summing {
 public:
  Summing(const Checkpoint& checkpoint, const SumOptions& options, const SumProgress& progress,
          const std::atomic<bool>* cancel)
      : checkpoint_(checkpoint), options_(options), progress_(progress), cancel_(cancel) {
    for (const DigestAlgorithm algorithm : options.algorithms) {
      if (algorithm != DigestAlgorithm::uuid) of_arrays_.push_back(algorithm);
    }
    list_arrays();
    for (const SourceFile& file : checkpoint.files) add_file(file.name, file.file->size());
    if (!options.whole_files) return;
    for (const Sidecar& sidecar : checkpoint.sidecars) add_file(sidecar.name, sidecar.bytes);
  }

  StoredSums run() {
    Workers workers(options_.threads);
    std::vector<std::vector<std::byte>> buffers(static_cast<std::size_t>(workers.count()));
    workers.for_each(sums_.files.size(),
                     [&](std::size_t file, std::size_t worker) { sum_file(file, buffers[worker]); });
    sums_.bytes_read = done_;
    return std::move(sums_);
  }

 private:
  void list_arrays() {
    sums_.path = checkpoint_.path;
    sums_.format = checkpoint_.format;
    if (options_.algorithms.empty()) return;
    order_.resize(checkpoint_.arrays.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::ranges::stable_sort(order_, {}, [&](std::size_t i) { return checkpoint_.arrays[i].file; });
    for (const std::size_t i : order_) {
      const StoredArray& array = checkpoint_.arrays[i];
      sums_.arrays.push_back(
          {array.name, checkpoint_.files[array.file].name, element_name(array), array.shape, array.bytes, {}});
      total_ += array.bytes;
    }
  }

  void add_file(const std::string& name, std::uint64_t bytes) {
    sums_.files.push_back({name, label_of(checkpoint_, name), bytes, {}, {}});
    if (options_.whole_files) total_ += bytes;
  }

  void sum_file(std::size_t file, std::vector<std::byte>& buffer) {
    FileSum& sum = sums_.files[file];
    if (file < checkpoint_.files.size() && !options_.algorithms.empty()) sum_arrays(file, sum, buffer);
    if (!options_.whole_files) return;
    const std::shared_ptr<const File> source =
        file < checkpoint_.files.size() ? checkpoint_.files[file].file : open_sidecar(checkpoint_, sum.name);
    Sha256 whole;
    read(*source, 0, source->size(), buffer, [&](std::span<const std::byte> bytes) { whole.update(bytes); });
    sum.sha256 = hex(whole.value());
  }

  void sum_arrays(std::size_t file, FileSum& sum, std::vector<std::byte>& buffer) {
    Digests together(options_.algorithms);
    const auto first =
        std::ranges::lower_bound(order_, file, {}, [&](std::size_t i) { return checkpoint_.arrays[i].file; });
    for (auto i = first; i != order_.end() && checkpoint_.arrays[*i].file == file; ++i) {
      const StoredArray& array = checkpoint_.arrays[*i];
      Digests own(of_arrays_);
      read(*checkpoint_.files[file].file, array.offset, array.bytes, buffer, [&](std::span<const std::byte> bytes) {
        own.update(bytes);
        together.update(bytes);
      });
      sums_.arrays[static_cast<std::size_t>(i - order_.begin())].digests = own.texts();
    }
    sum.arrays = together.texts();
  }

  template <typename Visitor>
  void read(const File& file, std::uint64_t offset, std::uint64_t count, std::vector<std::byte>& buffer,
            const Visitor& visit) {
    for (std::uint64_t done = 0; done < count; done += buffer.size()) {
      if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted");
      buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kReadBytes, count - done)));
      file.read_at(offset + done, buffer);
      visit(std::span<const std::byte>(buffer));
      const std::scoped_lock lock(mutex_);
      done_ += buffer.size();
      if (progress_) progress_(done_, total_);
    }
  }

  const Checkpoint& checkpoint_;
  const SumOptions& options_;
  const SumProgress& progress_;
  const std::atomic<bool>* cancel_;
  std::vector<DigestAlgorithm> of_arrays_;
  std::vector<std::size_t> order_;  // of the checkpoint's arrays, by file; parallel to sums_.arrays
  StoredSums sums_;
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

void add_lines(std::string& out, const DigestTexts& digests, const std::string& name) {
  for (const auto& [algorithm, digest] : digests)
    out += fmt::format("{:<8}  {}  {}\n", regauge::name(algorithm), digest, printable(name));
}

}  // namespace

std::string_view name(DigestAlgorithm algorithm) {
  constexpr std::array<std::string_view, kAlgorithms.size()> kNames{"xxh3-128", "xxh64", "sha1", "sha256", "uuid"};
  return kNames.at(static_cast<std::size_t>(algorithm));
}

std::optional<DigestAlgorithm> digest_algorithm_from_name(std::string_view text) {
  for (const DigestAlgorithm algorithm : kAlgorithms) {
    if (name(algorithm) == text) return algorithm;
  }
  return std::nullopt;
}

StoredSums checksum(const Checkpoint& checkpoint, const SumOptions& options, const SumProgress& progress,
                    const std::atomic<bool>* cancel) {
  return Summing(checkpoint, options, progress, cancel).run();
}

std::optional<StoredSums> sums_of_written(const Checkpoint& checkpoint, const StoredDigests& digests) {
  if (checkpoint.files.size() != 1 || checkpoint.arrays.size() != digests.arrays.size()) return std::nullopt;
  StoredSums sums;
  sums.path = checkpoint.path;
  sums.format = checkpoint.format;
  const SourceFile& file = checkpoint.files.front();
  for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) {
    const StoredArray& array = checkpoint.arrays[i];
    if (array.name != digests.arrays[i].first) return std::nullopt;
    sums.arrays.push_back({array.name,
                           file.name,
                           element_name(array),
                           array.shape,
                           array.bytes,
                           {{DigestAlgorithm::xxh3_128, hex(digests.arrays[i].second)}}});
  }
  sums.files.push_back({file.name,
                        label_of(checkpoint, file.name),
                        file.file->size(),
                        {{DigestAlgorithm::xxh3_128, hex(digests.together)}},
                        {}});
  return sums;
}

std::string render_lines(const StoredSums& sums, bool with_arrays) {
  std::string out;
  auto array = sums.arrays.begin();
  for (const FileSum& file : sums.files) {
    for (; array != sums.arrays.end() && array->file == file.name; ++array) {
      if (with_arrays) add_lines(out, array->digests, file.label + ":" + array->name);
    }
    add_lines(out, file.arrays, file.label);
    if (!file.sha256.empty()) out += fmt::format("{:<8}  {}  {}\n", "sha256-file", file.sha256, printable(file.label));
  }
  return out;
}

}  // namespace regauge
