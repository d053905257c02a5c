#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/finding.h"
#include "convert/adapt.h"
#include "convert/recipe/recipe.h"

namespace regauge {

/// What a recipe says of one target.
struct Decision {
  Wish wish = ExactWish{};
  std::string by;       ///< "Q4_K_M", "ffn_down=Q6_K": for reasons; empty when nothing was asked
  Losses allow;         ///< of an exact wish
  bool strict = false;  ///< see Rule
};

/// What assigning needs to know beside the targets.
struct AssignContext {
  const Format* format = nullptr;
  OutputKind kind = OutputKind::model;
  MixtureModel model;
};

/// Applies one recipe to the outputs of a conversion. Rules may look at all targets of an output, so decisions are made
/// before any route is chosen.
class Assigner {
 public:
  /// `recipe` must outlive it. Throws Error{unsupported} when a pattern does not compile.
  explicit Assigner(const Recipe& recipe);
  ~Assigner();
  Assigner(const Assigner&) = delete;
  Assigner& operator=(const Assigner&) = delete;

  /// One decision for each target. Vectors, and matrices that loaders want dense, come to exact whatever rules say.
  std::vector<Decision> decide(std::span<const Target> targets, const AssignContext& context);

  /// Warns of rules that have matched nothing so far.
  void note_unused(Findings& findings) const;

 private:
  struct Matcher;
  const Recipe& recipe_;
  std::vector<Matcher> matchers_;
};

}  // namespace regauge
