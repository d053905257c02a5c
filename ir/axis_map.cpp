#include "ir/axis_map.h"

#include <algorithm>

#include "base/error.h"

namespace regauge {

AxisMap AxisMap::identity(std::int64_t size) { return AxisMap({{0, size}}); }

AxisMap::AxisMap(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    if (run.begin < 0 || run.length < 0) throw Error(ErrorCode::internal, "axis map with a negative run");
    if (run.length == 0) continue;
    if (!runs_.empty() && runs_.back().begin + runs_.back().length == run.begin) {
      runs_.back().length += run.length;
    } else {
      starts_.push_back(size_);
      runs_.push_back(run);
    }
    size_ += run.length;
  }
}

bool AxisMap::is_identity(std::int64_t source_size) const {
  if (size_ != source_size) return false;
  return runs_.empty() || (runs_.size() == 1 && runs_.front().begin == 0);
}

std::int64_t AxisMap::operator[](std::int64_t output) const {
  if (output < 0 || output >= size_)
    throw Error(ErrorCode::internal, "index {} outside of an axis map of {}", output, size_);
  const auto after = std::ranges::upper_bound(starts_, output);
  const auto index = static_cast<std::size_t>(after - starts_.begin()) - 1;
  return runs_[index].begin + (output - starts_[index]);
}

std::vector<std::int64_t> AxisMap::indices() const {
  std::vector<std::int64_t> all;
  all.reserve(static_cast<std::size_t>(size_));
  for (const Run& run : runs_) {
    for (std::int64_t i = 0; i < run.length; ++i) all.push_back(run.begin + i);
  }
  return all;
}

AxisMap AxisMap::then(const AxisMap& next) const {
  std::vector<Run> out;
  for (const Run& run : next.runs_) {
    const AxisMap part = slice(run.begin, run.length);
    out.insert(out.end(), part.runs_.begin(), part.runs_.end());
  }
  return AxisMap(std::move(out));
}

std::optional<AxisMap> AxisMap::inverse() const {
  std::vector<std::size_t> order(runs_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return runs_[i].begin; });
  std::vector<Run> out;
  std::int64_t expected = 0;
  for (const std::size_t i : order) {
    if (runs_[i].begin != expected) return std::nullopt;
    expected += runs_[i].length;
    out.push_back({starts_[i], runs_[i].length});
  }
  return AxisMap(std::move(out));
}

AxisMap AxisMap::slice(std::int64_t begin, std::int64_t count) const {
  if (begin < 0 || count < 0 || begin + count > size_) {
    throw Error(ErrorCode::internal, "slice [{}, {}) outside of an axis map of {}", begin, begin + count, size_);
  }
  std::vector<Run> out;
  if (count == 0) return AxisMap(out);
  const auto after = std::ranges::upper_bound(starts_, begin);
  for (auto i = static_cast<std::size_t>(after - starts_.begin()) - 1; count > 0; ++i) {
    const std::int64_t skip = begin - starts_[i];
    const std::int64_t take = std::min(runs_[i].length - skip, count);
    out.push_back({runs_[i].begin + skip, take});
    begin += take;
    count -= take;
  }
  return AxisMap(std::move(out));
}

bool AxisMap::keeps_units(std::int64_t unit) const {
  return unit > 0 &&
         std::ranges::all_of(runs_, [&](const Run& run) { return run.begin % unit == 0 && run.length % unit == 0; });
}

}  // namespace regauge
