#pragma once

#include <memory>
#include <span>

#include "models/architecture.h"

namespace regauge {

/// How many times too often (or, below zero, too seldom) one was added to norms with these means, which are stored by one
/// rule: as 1 + w where `shifted`, else as w. A whole number that the median lies near and that three of four norms have
/// each by itself; 0 when there is none. Trained offsets spread by a few tenths around 0, so that single norms prove
/// nothing.
int norm_shift(std::span<const double> means, bool shifted);

/// As recognise(), and looks at the norms: a checkpoint that somebody saved with 1 + w under Hugging Face's names, or with w
/// where 1 + w is due, is understood as its numbers say (Architecture::stored_convention) and not as its names and shapes
/// announce. Which is appended to `findings` as "norms-by-data". Reads every norm of the model and its MTP layers: some
/// hundred kilobytes. Throws what recognise() and the sources of the norms throw.
std::unique_ptr<const Architecture> recognise_by_data(const Checkpoint& checkpoint, Findings& findings);

}  // namespace regauge
