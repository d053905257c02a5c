#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "convert/adapt.h"
#include "verify/effective.h"
#include "verify/wide.h"

namespace regauge {

// Value digests say what a model's weights are, whatever file holds them: docs/verifying.md has the exact bytes.

/// Values digested so far, and all that will be; from any thread but never from two at once.
using DigestProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct ValueDigests {
  std::map<std::string, Digest128> tensors;  ///< by canonical name, factors included, a tied head's copy not
  std::map<std::string, Digest128> roots;    ///< "text", "mtp", "vision", "adapter": those that are there
  Digest128 model;                           ///< over the roots
};

/// The digest of one row of effective values: -0 as +0, any NaN as 0x7FC00000. Overwrites `row` so.
Digest128 digest_row(std::span<float> row);
/// The same of numbers as they are: the digest of the f32 row where every one of them is an f32, else of two f64 a number,
/// the nearest one and what remains.
Digest128 digest_wide_row(std::span<const Wide> row);

/// The digest of every leaf, in their order, on `threads` workers (0: one for each core). Memory is that of a few bands a
/// worker whatever the model's size. A tensor of which no values can be made counts as one row of its stored bytes. Throws
/// what reading throws, and Error{io} when `cancel` becomes true.
std::vector<Digest128> digest_leaves(const EffectiveModel& model, std::span<const OpenedPath> paths, int threads = 0,
                                     const DigestProgress& progress = {}, const std::atomic<bool>* cancel = nullptr);

/// Puts the digests of leaves together. `digests` runs parallel to `model.leaves`.
ValueDigests combine(const EffectiveModel& model, std::span<const Digest128> digests);

/// The value digests of several paths that are one model (model, mmproj, adapter). As digest_leaves().
ValueDigests value_digests(std::span<const OpenedPath> paths, int threads = 0, const DigestProgress& progress = {},
                           const std::atomic<bool>* cancel = nullptr);

/// The value digests of one checkpoint by the names of its own tensors, in its order: of a tensor that holds one slot that
/// slot's digest, else the digest over its slots' digests in order. Factors beside a weight are left out.
std::vector<std::pair<std::string, Digest128>> tensor_value_digests(const OpenedPath& path, int threads = 0,
                                                                    const DigestProgress& progress = {},
                                                                    const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
