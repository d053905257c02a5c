#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "convert/adapt.h"
#include "ir/slot.h"
#include "verify/diff_keys.h"
#include "verify/measure.h"

namespace regauge {

/// How a weight of one checkpoint relates to the same weight of another, best first.
enum class Likeness : std::uint8_t {
  bytes,    ///< stored alike, byte for byte
  values,   ///< equal as numbers in effective form
  dialect,  ///< a decay that another library's exp rounds otherwise: within 2 units in the last place
  different,
};

std::string_view name(Likeness likeness);

/// A weight that both have.
struct TensorDiff {
  std::string name;  ///< canonical
  Component component = Component::other;
  Shape shape;
  std::string first_encoding;
  std::string second_encoding;
  double first_bits = 0;  ///< stored bits for each parameter of the tensor that holds it; 0 without parameters
  double second_bits = 0;
  Likeness likeness = Likeness::different;
  bool same_encoding = true;
  bool bytes_differ = false;  ///< stored alike, and in other bytes
  Measured measured;          ///< elements alone where nothing had to be decoded
};

/// A weight that one side alone has.
struct Alone {
  std::string name;
  Component component = Component::other;
  Shape shape;
};

struct Reshaped {
  std::string name;
  Component component = Component::other;
  Shape first;
  Shape second;
};

/// A difference of dialect: named, and not counted.
struct DialectNote {
  std::string what;  ///< "norms are stored as 1 + w in B"
  std::uint64_t tensors = 0;
  std::string example;
};

struct Diff {
  std::vector<TensorDiff> tensors;  ///< that both have, by name
  std::vector<Alone> only_first;
  std::vector<Alone> only_second;
  std::vector<std::pair<std::string, std::string>> renamed;  ///< other names, the same values; not among the above
  std::vector<Reshaped> reshaped;
  std::vector<DialectNote> dialect;
  std::vector<KeyDiff> keys;
  std::vector<std::string> unread;  ///< why something could not be compared

  /// Nothing that counts differs: no values, no weights on one side only, no keys; and everything could be compared.
  bool equal() const;
  /// Of equal checkpoints: all in their bytes, else all in their values, else within the tolerance of `dialect`.
  Likeness sense() const;
};

struct DiffOptions {
  std::string only;         ///< tensors whose canonical names match (inspect/pattern.h); then no keys
  bool keys = true;         ///< compare metadata, configuration and tokenizer too
  bool decode_all = false;  ///< measure tensors of equal bytes as well, for sums over many
  int threads = 0;
};

/// Compares two models, each of one or several paths, in any formats: weights in effective form, those that are stored alike
/// by their bytes alone. Throws what opening and reading throw, Error{io} when `cancel` becomes true.
Diff diff(std::span<const OpenedPath> first, std::span<const OpenedPath> second, const DiffOptions& options = {},
          const MeasureProgress& progress = {}, const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
