#include "formats/safetensors/directory_writer.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/output_directory.h"
#include "base/text.h"
#include "formats/positional_file.h"
#include "formats/positional_writer.h"

namespace regauge::safetensors {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

/// Where an array of begin() lies.
struct Place {
  std::size_t shard = 0;
  std::size_t index = 0;  // within the shard
};

/// Fills shard after shard. Source: huggingface/huggingface_hub src/huggingface_hub/serialization/_base.py, except that
/// there an array above the limit does not end the shard before it.
std::vector<Place> cut_into_shards(std::span<const ArrayPlan> arrays, const std::vector<std::string_view>& side_files,
                                   std::uint64_t shard_bytes) {
  std::vector<Place> places;
  Place next;
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const ArrayPlan& array = arrays[i];
    if (!side_files[i].empty()) {
      places.emplace_back();  // the side file's number is known when the shards are
      continue;
    }
    const auto together = checked_add(filled, array.bytes());
    if (next.index > 0 && shard_bytes > 0 && (!together || *together > shard_bytes)) {
      next = {next.shard + 1, 0};
      filled = 0;
    }
    places.push_back(next);
    ++next.index;
    filled += array.bytes();
  }
  return places;
}

std::uint64_t total_bytes(std::span<const ArrayPlan> arrays) {
  std::uint64_t total = 0;
  for (const ArrayPlan& array : arrays) {
    const auto sum = checked_add(total, array.bytes());
    if (!sum) throw Error(ErrorCode::invalid, "the arrays have more bytes than can be counted").tensor(array.name);
    total = *sum;
  }
  return total;
}

class DirectoryWriter final : public Writer {
 public:
  DirectoryWriter(const std::filesystem::path& target, const WriteOptions& options, const DirectoryStyle& style)
      : options_(options),
        style_(style),
        output_(OutputDirectory::create(target, output_options(options), ".safetensors")) {}

  Order order() const noexcept override { return Order::any; }

  void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) override {
    check_names(arrays);
    std::vector<std::string_view> side_files(arrays.size());
    for (std::size_t i = 0; i < arrays.size(); ++i) side_files[i] = style_.side_file_of(arrays[i].name);
    // Nothing lies beside what is not there.
    const bool alone = std::ranges::find(side_files, std::string_view()) == side_files.end();
    if (alone && options_.kept.empty()) side_files.assign(arrays.size(), {});
    for (const std::string_view file : side_files) {
      if (!file.empty()) side_files_.emplace(file);
    }
    places_ = cut_into_shards(arrays, side_files, options_.new_file.empty() ? options_.shard_bytes : 0);
    std::size_t shards = 1;
    for (const Place& place : places_) shards = std::max(shards, place.shard + 1);
    std::vector<std::vector<ArrayPlan>> of_shard(shards + side_files_.size());
    std::vector<ArrayPlan> indexed;
    std::vector<std::string> shard_of;
    std::size_t indexed_kept = 0;
    for (const KeptFile& kept : options_.kept) {
      if (!kept.is_indexed) continue;
      ++indexed_kept;
      indexed.insert(indexed.end(), kept.arrays.begin(), kept.arrays.end());
      shard_of.resize(indexed.size(), kept.name);
    }
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      if (side_files[i].empty()) {
        indexed.push_back(arrays[i]);
        shard_of.push_back(model_file(places_[i].shard, shards));
      } else {
        const auto before = std::distance(side_files_.begin(), side_files_.find(std::string(side_files[i])));
        const std::size_t file = shards + static_cast<std::size_t>(before);
        places_[i] = {file, of_shard[file].size()};
      }
      of_shard[places_[i].shard].push_back(arrays[i]);
    }
    check_carried(shards);
    // The arrays first: a directory that holds any of them is known as a checkpoint by the next run.
    for (const KeptFile& kept : options_.kept) keep(kept);
    for (std::size_t s = 0; s < of_shard.size(); ++s) {
      Shard& shard = *shards_.emplace_back(std::make_unique<Shard>());
      if (s < shards && of_shard[s].empty() && !options_.kept.empty()) continue;  // nothing new in the model itself
      shard.file = output_.make(s < shards ? model_file(s, shards)
                                           : *std::next(side_files_.begin(), static_cast<std::ptrdiff_t>(s - shards)));
      shard.content.emplace(shard.file, lay_out(metadata, of_shard[s], style_.file));
      file_bytes_ += shard.content->file_bytes();
    }
    const std::size_t indexed_files = indexed_kept + (of_shard.front().empty() ? 0 : shards);
    if (indexed_files > 1 || style_.indexes_one_file) write_text(kIndexName, index_text(indexed, shard_of));
    for (const CarriedFile& file : options_.files) carry(file);
  }

  void put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) override {
    const Place& place = places_.at(index);
    shards_[place.shard]->content->put(place.index, offset, bytes);
  }

  void read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const override {
    const Place& place = places_.at(index);
    shards_[place.shard]->content->read_back(place.index, offset, out);
  }

  void seal() override {
    for (const auto& shard : shards_) {
      if (shard->content) shard->content->seal(options_.resume);
    }
  }

  void commit() override { output_.commit(); }
  std::filesystem::path sealed_path() const override { return output_.partial(); }
  std::uint64_t file_bytes() const override { return file_bytes_; }

 private:
  struct Shard {
    WritableFile file;
    std::optional<PositionalFile> content;
  };

  /// The file of the model's own arrays: one more beside those that are kept, else shards.
  std::string model_file(std::size_t number, std::size_t shards) const {
    return options_.new_file.empty() ? shard_name(number, shards) : options_.new_file;
  }

  void keep(const KeptFile& kept) {
    // What lies inside a container has a path, and is no file of the disk.
    std::error_code ignored;
    const bool on_disk = std::filesystem::is_regular_file(kept.file->path(), ignored);
    if (options_.link_kept && on_disk && output_.link(kept.name, kept.file->path())) {
      file_bytes_ += kept.file->size();
      return;
    }
    carry({kept.name, kept.file});
  }

  /// Across shards; within one, lay_out() does it again.
  void check_names(std::span<const ArrayPlan> arrays) const {
    std::set<std::string_view> names;
    for (const KeptFile& kept : options_.kept) {
      for (const ArrayPlan& array : kept.arrays) names.insert(array.name);
    }
    for (const ArrayPlan& array : arrays) {
      if (!names.insert(array.name).second) {
        throw Error(ErrorCode::invalid, "two arrays have this name").tensor(array.name);
      }
    }
  }

  void check_carried(std::size_t shards) const {
    std::set<std::string> taken = side_files_;
    taken.insert(kIndexName);
    for (std::size_t s = 0; s < shards; ++s) taken.insert(model_file(s, shards));
    for (const KeptFile& kept : options_.kept) taken.insert(kept.name);
    for (const CarriedFile& file : options_.files) {
      if (taken.contains(file.name)) {
        throw Error(ErrorCode::invalid, "the file '{}' would take the place of the arrays", file.name)
            .at(output_.target().native());
      }
    }
  }

  std::string index_text(std::span<const ArrayPlan> arrays, const std::vector<std::string>& shard_of) const {
    std::map<std::string, std::string> sorted;
    for (std::size_t i = 0; i < arrays.size(); ++i) sorted.emplace(arrays[i].name, shard_of[i]);
    Json::object_t weight_map;  // appended to, because each look-up of Json is linear
    for (const auto& [name, shard] : sorted) weight_map.emplace_back(name, shard);
    Json metadata = Json::object();
    metadata["total_size"] = total_bytes(arrays);
    if (style_.count_parameters != nullptr) {
      if (const auto count = style_.count_parameters(arrays, options_.files)) metadata["total_parameters"] = *count;
    }
    Json index = Json::object();
    index["metadata"] = std::move(metadata);
    index["weight_map"] = std::move(weight_map);
    // Python's json module, which the others write with, escapes all that is not ASCII.
    return index.dump(style_.index_indent, ' ', true) + (style_.index_ends_in_line_feed ? "\n" : "");
  }

  void write_text(const std::string& name, std::string_view text) {
    WritableFile file = output_.make(name);
    file.preallocate(text.size());
    file.write_at(0, bytes_of(text));
    file_bytes_ += text.size();
  }

  void carry(const CarriedFile& carried) {
    if (const auto* text = std::get_if<std::string>(&carried.content)) return write_text(carried.name, *text);
    const File& source = *std::get<std::shared_ptr<const File>>(carried.content);
    WritableFile file = output_.make(carried.name);
    file.preallocate(source.size());
    std::vector<std::byte> buffer;
    for (std::uint64_t at = 0; at < source.size(); at += buffer.size()) {
      buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBytes, source.size() - at)));
      source.read_at(at, buffer);
      file.write_at(at, buffer);
    }
    file_bytes_ += source.size();
  }

  WriteOptions options_;
  DirectoryStyle style_;
  OutputDirectory output_;
  std::vector<Place> places_;                   // of each array of begin()
  std::set<std::string> side_files_;            // after the shards, in this order
  std::vector<std::unique_ptr<Shard>> shards_;  // their addresses are kept by what they hold
  std::uint64_t file_bytes_ = 0;
};

}  // namespace

std::string_view adapter_file_of(std::string_view array) {
  constexpr std::string_view kPeft = "base_model.model.";
  const bool factor = array.ends_with(".lora_A.weight") || array.ends_with(".lora_B.weight");
  return array.starts_with(kPeft) && factor ? "eora/adapter_model.safetensors" : "";
}

std::string shard_name(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", number + 1, count);
}

std::unique_ptr<Writer> create_directory_writer(const std::filesystem::path& target, const WriteOptions& options,
                                                const DirectoryStyle& style) {
  return std::make_unique<DirectoryWriter>(target, options, style);
}

}  // namespace regauge::safetensors
