#include "formats/gguf/split_writer.h"

#include <limits>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "formats/gguf/split.h"
#include "formats/gguf/writer.h"

namespace regauge::gguf {
namespace {

/// Where a tensor of begin() lies.
struct Place {
  std::size_t shard = 0;
  std::size_t index = 0;  // within the shard
};

/// Padding does not count. Source: ggml-org/llama.cpp gguf-py/gguf/gguf_writer.py, add_tensor_info.
std::vector<Place> cut_into_shards(std::span<const ArrayPlan> arrays, std::uint64_t shard_bytes) {
  std::vector<Place> places;
  Place next;
  std::uint64_t filled = 0;
  for (const ArrayPlan& array : arrays) {
    const auto together = checked_add(filled, array.bytes());
    if (next.index > 0 && (!together || *together > shard_bytes)) {
      next = {next.shard + 1, 0};
      filled = 0;
    }
    places.push_back(next);
    ++next.index;
    filled += array.bytes();
  }
  return places;
}

class SplitWriter final : public Writer {
 public:
  SplitWriter(std::filesystem::path target, const WriteOptions& options)
      : target_(std::move(target)), options_(options) {}

  Order order() const noexcept override { return Order::any; }

  void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) override {
    check(arrays);
    places_ = cut_into_shards(arrays, options_.shard_bytes);
    std::vector<std::vector<ArrayPlan>> of_shard(places_.empty() ? 1 : places_.back().shard + 1);
    for (std::size_t i = 0; i < arrays.size(); ++i) of_shard[places_[i].shard].push_back(arrays[i]);
    const std::size_t count = of_shard.size();
    if (count > std::numeric_limits<std::uint16_t>::max()) {
      throw Error(ErrorCode::unsupported, "{} files are more than the split keys can count", count)
          .at(target_.native());
    }
    if (count == 1) {
      shards_.push_back(create_writer(target_, options_));
      shards_.back()->begin(metadata, arrays);
      return;
    }
    for (std::size_t s = 0; s < count; ++s) {
      const SplitKeys keys{.number = s, .count = count, .tensors = arrays.size()};
      shards_.push_back(create_shard_writer(shard_path(target_, s, count), options_, keys));
      shards_.back()->begin(s == 0 ? metadata : Metadata(), of_shard[s]);
    }
  }

  void put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) override {
    const Place& place = places_.at(index);
    shards_[place.shard]->put(place.index, offset, bytes);
  }

  void read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const override {
    const Place& place = places_.at(index);
    shards_[place.shard]->read_back(place.index, offset, out);
  }

  void seal() override {
    for (const auto& shard : shards_) shard->seal();
  }

  void commit() override {
    if (shards_.size() > 1 && options_.overwrite) {
      // Else a crash could leave the first file of the old model with others of the new one, and loaders would not notice.
      const auto first = shard_path(target_, 0, shards_.size());
      std::error_code error;
      std::filesystem::remove(first, error);
      if (error) throw Error(ErrorCode::io, "cannot be replaced: {}", error.message()).at(first.native());
    }
    for (auto shard = shards_.rbegin(); shard != shards_.rend(); ++shard) (*shard)->commit();
  }

  std::filesystem::path sealed_path() const override { return shards_.at(0)->sealed_path(); }

  std::uint64_t file_bytes() const override {
    std::uint64_t total = 0;
    for (const auto& shard : shards_) total += shard->file_bytes();
    return total;
  }

 private:
  void check(std::span<const ArrayPlan> arrays) const {
    if (arrays.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
      throw Error(ErrorCode::unsupported, "{} tensors are more than the split keys can count", arrays.size())
          .at(target_.native());
    }
    std::set<std::string_view> names;
    for (const ArrayPlan& array : arrays) {
      if (!names.insert(array.name).second) {
        throw Error(ErrorCode::invalid, "two arrays have this name").tensor(array.name);
      }
    }
  }

  std::filesystem::path target_;
  WriteOptions options_;
  std::vector<Place> places_;  // of each tensor of begin()
  std::vector<std::unique_ptr<Writer>> shards_;
};

}  // namespace

std::unique_ptr<Writer> create_split_writer(const std::filesystem::path& target, const WriteOptions& options) {
  return std::make_unique<SplitWriter>(target, options);
}

}  // namespace regauge::gguf
