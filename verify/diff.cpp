#include "verify/diff.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <tuple>

#include <fmt/format.h>

#include "base/error.h"
#include "convert/workers.h"
#include "inspect/pattern.h"
#include "verify/effective.h"
#include "verify/value_digest.h"

namespace regauge {
namespace {

/// Steps between the decays of one library's exp and another's. Source: docs/verifying.md.
constexpr std::uint64_t kDecayUlps = 2;
constexpr std::size_t kReadBytes = std::size_t{1} << 20;

using Paths = std::span<const OpenedPath>;

/// A weight that both have.
struct Pair {
  const Leaf* first = nullptr;
  const Leaf* second = nullptr;
};

const TargetPiece& piece_of(const Leaf& leaf) { return leaf.target.pieces.front(); }

bool same_selection(const Leaf& a, const Leaf& b) {
  const TargetPiece& x = piece_of(a);
  const TargetPiece& y = piece_of(b);
  return x.source_columns == y.source_columns && x.rows == y.rows && x.columns == y.columns && x.view == y.view;
}

/// Whether equal bytes mean equal values: both tensors lie on disk alike and the same is made of them.
bool stored_alike(const Checkpoint& a, const Checkpoint& b, const Pair& pair) {
  const Tensor& x = *pair.first->stored;
  const Tensor& y = *pair.second->stored;
  if (piece_of(*pair.first).tensor != &x || piece_of(*pair.second).tensor != &y) return false;
  if (x.encoding != y.encoding || x.shape != y.shape || x.arrays.size() != y.arrays.size()) return false;
  if (x.arrays.empty() || !same_selection(*pair.first, *pair.second)) return false;
  for (std::size_t i = 0; i < x.arrays.size(); ++i) {
    const StoredArray& one = a.arrays[x.arrays[i]];
    const StoredArray& other = b.arrays[y.arrays[i]];
    if (one.shape != other.shape || one.bytes != other.bytes || element_name(one) != element_name(other)) return false;
  }
  return true;
}

struct ReadBuffers {
  std::vector<std::byte> first;
  std::vector<std::byte> second;
};

bool same_array_bytes(const Checkpoint& a, const StoredArray& x, const Checkpoint& b, const StoredArray& y,
                      ReadBuffers& buffers) {
  for (std::uint64_t done = 0; done < x.bytes; done += buffers.first.size()) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kReadBytes, x.bytes - done));
    buffers.first.resize(count);
    buffers.second.resize(count);
    a.files[x.file].file->read_at(x.offset + done, buffers.first);
    b.files[y.file].file->read_at(y.offset + done, buffers.second);
    if (std::memcmp(buffers.first.data(), buffers.second.data(), count) != 0) return false;
  }
  return true;
}

/// Differences of dialect, counted by kind.
class Notes {
 public:
  void add(std::string what, const std::string& tensor) {
    const auto found = std::ranges::find(notes_, what, &DialectNote::what);
    if (found != notes_.end()) {
      ++found->tensors;
    } else {
      notes_.push_back({std::move(what), 1, tensor});
    }
  }
  std::vector<DialectNote> take() {
    std::ranges::sort(notes_, {}, &DialectNote::what);
    return std::move(notes_);
  }

 private:
  std::vector<DialectNote> notes_;
};

std::string_view dialect_text(Dialect dialect) {
  switch (dialect) {
    case Dialect::hf: return "Hugging Face's";
    case Dialect::mlx: return "MLX's";
    case Dialect::gguf: break;
  }
  return "GGUF's";
}

/// Bits for each parameter, with all that the tensor's arrays store; factors lie in arrays of it too.
double stored_bits(const Checkpoint& checkpoint, const Tensor& tensor) {
  const auto elements = static_cast<double>(tensor.shape.elements());
  double bytes = 0;
  for (const std::size_t array : tensor.arrays) bytes += static_cast<double>(checkpoint.arrays[array].bytes);
  return elements > 0 ? bytes * 8 / elements : 0;
}

/// "A" where `a` has it, "B" where `b` has.
std::string_view side(bool a) { return a ? "A" : "B"; }

int mtp_layers(const EffectiveModel& model) {
  constexpr std::string_view kPrefix = "mtp.layers.";
  std::set<std::string> layers;
  for (const Leaf& leaf : model.leaves) {
    const std::string& name = leaf.target.name;
    if (name.starts_with(kPrefix)) layers.insert(name.substr(0, name.find('.', kPrefix.size())));
  }
  return static_cast<int>(layers.size());
}

class Comparing {
 public:
  Comparing(Paths first, Paths second, const DiffOptions& options, const MeasureProgress& progress,
            const std::atomic<bool>* cancel)
      : paths_{first, second},
        options_(options),
        progress_(progress),
        cancel_(cancel),
        models_{effective_model(first), effective_model(second)} {}

  Diff run() {
    pair_up();
    find_renamed();
    for (const Pair& pair : pairs_) note_dialect(pair);
    diff_.dialect = notes_.take();
    compare_bytes();
    compare_values();
    if (options_.keys && options_.only.empty()) {
      diff_.keys = diff_keys(paths_[0], paths_[1], mtp_layers(models_[0]), mtp_layers(models_[1]), diff_.unread);
    }
    return std::move(diff_);
  }

 private:
  using ByName = std::map<std::string, const Leaf*>;

  ByName by_name(const EffectiveModel& model) const {
    const inspect::NamePattern wanted(options_.only);
    ByName leaves;
    for (const Leaf& leaf : model.leaves) {
      if (wanted.matches(leaf.target.name)) leaves.emplace(leaf.target.name, &leaf);
    }
    return leaves;
  }

  void pair_up() {
    const ByName first = by_name(models_[0]);
    const ByName second = by_name(models_[1]);
    for (const auto& [name, leaf] : first) {
      const auto found = second.find(name);
      if (found == second.end()) {
        note_alone(*leaf, true);
      } else if (leaf->target.shape != found->second->target.shape) {
        diff_.reshaped.push_back({name, leaf->target.component, leaf->target.shape, found->second->target.shape});
      } else {
        pairs_.push_back({leaf, found->second});
        note_pair(pairs_.back());
      }
    }
    for (const auto& [name, leaf] : second) {
      if (!first.contains(name)) note_alone(*leaf, false);
    }
  }

  void note_alone(const Leaf& leaf, bool in_first) {
    if (leaf.kind == LeafKind::tied_head) {
      notes_.add(fmt::format("a copy of the tied head is stored in {} alone", side(in_first)), leaf.target.name);
      return;
    }
    (in_first ? alone_first_ : alone_second_).push_back(&leaf);
  }

  void note_pair(const Pair& pair) {
    TensorDiff diff;
    diff.name = pair.first->target.name;
    diff.component = pair.first->target.component;
    diff.shape = pair.first->target.shape;
    diff.first_encoding = to_string(piece_of(*pair.first).tensor->encoding);
    diff.second_encoding = to_string(piece_of(*pair.second).tensor->encoding);
    diff.first_bits = stored_bits(checkpoint(*pair.first, 0), *pair.first->stored);
    diff.second_bits = stored_bits(checkpoint(*pair.second, 1), *pair.second->stored);
    diff.same_encoding = diff.first_encoding == diff.second_encoding;
    diff.measured.elements = static_cast<std::uint64_t>(pair.first->target.shape.elements());
    diff_.tensors.push_back(std::move(diff));
  }

  /// Digests of what one side alone has, under no name.
  std::multimap<Digest128, const Leaf*> nameless(const std::vector<const Leaf*>& leaves, std::size_t side_index) {
    EffectiveModel model;
    for (const Leaf* leaf : leaves) {
      model.leaves.push_back(*leaf);
      model.leaves.back().target.name.clear();
    }
    const auto digests = digest_leaves(model, paths_[side_index], options_.threads, {}, cancel_);
    std::multimap<Digest128, const Leaf*> found;
    for (std::size_t i = 0; i < leaves.size(); ++i) found.emplace(digests[i], leaves[i]);
    return found;
  }

  /// Of what one side alone has, only shapes that the other side alone has too can be the same under another name.
  void find_renamed() {
    const auto shapes_of = [](const std::vector<const Leaf*>& leaves) {
      std::set<std::vector<std::int64_t>> shapes;
      for (const Leaf* leaf : leaves) shapes.insert(leaf->target.shape.dims);
      return shapes;
    };
    const auto candidates = [](const std::vector<const Leaf*>& leaves, const auto& shapes) {
      std::vector<const Leaf*> some = leaves;
      std::erase_if(some, [&](const Leaf* leaf) { return !shapes.contains(leaf->target.shape.dims); });
      return some;
    };
    const auto first = candidates(alone_first_, shapes_of(alone_second_));
    const auto second = candidates(alone_second_, shapes_of(alone_first_));
    std::set<const Leaf*> matched;
    if (!first.empty()) {
      auto theirs = nameless(second, 1);
      const auto ours = nameless(first, 0);
      for (const Leaf* leaf : first) {
        const auto own = std::ranges::find(ours, leaf, &std::pair<const Digest128, const Leaf*>::second);
        const auto same = theirs.find(own->first);
        if (same == theirs.end()) continue;
        diff_.renamed.emplace_back(leaf->target.name, same->second->target.name);
        matched.insert(leaf);
        matched.insert(same->second);
        theirs.erase(same);
      }
    }
    const auto keep = [&](const std::vector<const Leaf*>& from, auto& to) {
      for (const Leaf* leaf : from) {
        if (!matched.contains(leaf)) to.push_back({leaf->target.name, leaf->target.component, leaf->target.shape});
      }
    };
    keep(alone_first_, diff_.only_first);
    keep(alone_second_, diff_.only_second);
  }

  const Checkpoint& checkpoint(const Leaf& leaf, std::size_t side_index) const {
    return *paths_[side_index][leaf.path].checkpoint;
  }

  std::size_t pieces_of(const Tensor* tensor, std::size_t side_index) {
    auto& counts = pieces_[side_index];
    if (counts.empty()) {
      for (const Leaf& leaf : models_[side_index].leaves) {
        if (leaf.kind != LeafKind::factor) ++counts[leaf.stored];
      }
    }
    return counts[tensor];
  }

  void note_dialect(const Pair& pair) {
    const Leaf& a = *pair.first;
    const Leaf& b = *pair.second;
    const std::string& name = a.target.name;
    note_names(pair);
    const View& x = piece_of(a).view;
    const View& y = piece_of(b).view;
    if (x.elementwise != y.elementwise) {
      const Elementwise change = x.elementwise != Elementwise::none ? x.elementwise : y.elementwise;
      const bool in_first = x.elementwise == Elementwise::none;  // it holds what the effective form has
      notes_.add(
          fmt::format("{} in {}",
                      change == Elementwise::add_one ? "norms are stored as 1 + w" : "A_log is stored as -exp(A_log)",
                      side(in_first)),
          name);
    }
    if (x.rows != y.rows || x.columns != y.columns) {
      notes_.add(a.target.component == Component::deltanet ? "value heads are in another order"
                                                           : "columns or rows are in an order that is recorded",
                 name);
    }
    if (a.kind == LeafKind::factor || b.kind == LeafKind::factor) return;
    const std::size_t in_a = pieces_of(a.stored, 0);
    const std::size_t in_b = pieces_of(b.stored, 1);
    if ((in_a == 1) != (in_b == 1)) {
      notes_.add(
          fmt::format("several weights share an array in {} and have their own in {}", side(in_a > 1), side(in_b > 1)),
          name);
    } else if (in_a == 1 && a.stored->shape != b.stored->shape) {
      notes_.add("axes of length 1 are kept or left out, or in another place", name);
    }
  }

  void note_names(const Pair& pair) {
    const Dialect a = checkpoint(*pair.first, 0).dialect;
    const Dialect b = checkpoint(*pair.second, 1).dialect;
    if (a != b) {
      notes_.add(fmt::format("names are {} in A and {} in B", dialect_text(a), dialect_text(b)),
                 pair.first->target.name);
    } else if (pair.first->stored->name != pair.second->stored->name) {
      notes_.add("names have another prefix", pair.first->target.name);
    }
  }

  /// Finds out which pairs are the same bytes; each two tensors are read once, whatever the weights in them.
  void compare_bytes() {
    std::map<std::pair<const Tensor*, const Tensor*>, std::size_t> unique;
    std::vector<const Pair*> representatives;
    std::vector<std::size_t> group(pairs_.size(), SIZE_MAX);
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const Pair& pair = pairs_[i];
      if (!stored_alike(checkpoint(*pair.first, 0), checkpoint(*pair.second, 1), pair)) continue;
      const auto [at, fresh] = unique.emplace(std::pair(pair.first->stored, pair.second->stored), unique.size());
      group[i] = at->second;
      if (fresh) representatives.push_back(&pair);
    }
    std::vector<char> same(representatives.size(), 0);
    Workers workers(options_.threads);
    std::vector<ReadBuffers> buffers(static_cast<std::size_t>(workers.count()));
    workers.for_each(representatives.size(), [&](std::size_t i, std::size_t worker) {
      if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted");
      same[i] = same_bytes(*representatives[i], buffers[worker]) ? 1 : 0;
    });
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      if (group[i] == SIZE_MAX) continue;
      diff_.tensors[i].bytes_differ = same[group[i]] == 0;
      if (same[group[i]] != 0) diff_.tensors[i].likeness = Likeness::bytes;
    }
  }

  bool same_bytes(const Pair& pair, ReadBuffers& buffers) const {
    const Checkpoint& a = checkpoint(*pair.first, 0);
    const Checkpoint& b = checkpoint(*pair.second, 1);
    const Tensor& x = *pair.first->stored;
    const Tensor& y = *pair.second->stored;
    for (std::size_t i = 0; i < x.arrays.size(); ++i) {
      if (!same_array_bytes(a, a.arrays[x.arrays[i]], b, b.arrays[y.arrays[i]], buffers)) return false;
    }
    return true;
  }

  void compare_values() {
    std::vector<TargetPair> pairs;
    std::vector<std::size_t> index;
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const bool same_bytes = diff_.tensors[i].likeness == Likeness::bytes;
      if (same_bytes && !options_.decode_all) continue;
      const Leaf& a = *pairs_[i].first;
      const Leaf& b = *pairs_[i].second;
      if (same_bytes && !is_decodable(piece_of(a).tensor->encoding)) continue;
      if (!is_decodable(piece_of(a).tensor->encoding) || !is_decodable(piece_of(b).tensor->encoding)) {
        diff_.unread.push_back(fmt::format("{}: no values can be made of {} and {}; its bytes differ", a.target.name,
                                           diff_.tensors[i].first_encoding, diff_.tensors[i].second_encoding));
        continue;
      }
      pairs.push_back({&a.target, &b.target});
      index.push_back(i);
    }
    const std::vector<Measured> measured = measure(pairs, options_.threads, progress_, cancel_);
    for (std::size_t k = 0; k < index.size(); ++k) {
      TensorDiff& tensor = diff_.tensors[index[k]];
      tensor.measured = measured[k];
      if (tensor.likeness != Likeness::bytes) tensor.likeness = likeness_of(tensor);
    }
  }

  static Likeness likeness_of(const TensorDiff& tensor) {
    const Measured& measured = tensor.measured;
    if (measured.equal()) return Likeness::values;
    const bool decay = tensor.name.ends_with(".linear_attn.A_log");
    return decay && measured.unmatched == 0 && measured.worst_ulps <= kDecayUlps ? Likeness::dialect
                                                                                 : Likeness::different;
  }

  std::array<Paths, 2> paths_;
  const DiffOptions& options_;
  const MeasureProgress& progress_;
  const std::atomic<bool>* cancel_;
  std::array<EffectiveModel, 2> models_;
  std::array<std::map<const Tensor*, std::size_t>, 2> pieces_;
  std::vector<Pair> pairs_;  // parallel to diff_.tensors
  std::vector<const Leaf*> alone_first_;
  std::vector<const Leaf*> alone_second_;
  Notes notes_;
  Diff diff_;
};

}  // namespace

std::string_view name(Likeness likeness) {
  constexpr std::array<std::string_view, 4> kNames{"bytes", "values", "dialect", "different"};
  return kNames.at(static_cast<std::size_t>(likeness));
}

bool Diff::equal() const {
  return only_first.empty() && only_second.empty() && renamed.empty() && reshaped.empty() && unread.empty() &&
         std::ranges::none_of(tensors, [](const TensorDiff& one) { return one.likeness == Likeness::different; }) &&
         std::ranges::none_of(keys, &KeyDiff::counted);
}

Likeness Diff::sense() const {
  if (!equal()) return Likeness::different;
  Likeness worst = keys.empty() && dialect.empty() ? Likeness::bytes : Likeness::values;
  for (const TensorDiff& one : tensors) worst = std::max(worst, one.likeness);
  return worst;
}

Diff diff(std::span<const OpenedPath> first, std::span<const OpenedPath> second, const DiffOptions& options,
          const MeasureProgress& progress, const std::atomic<bool>* cancel) {
  return Comparing(first, second, options, progress, cancel).run();
}

}  // namespace regauge
