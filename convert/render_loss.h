#pragma once

#include <string>

#include "base/json.h"
#include "convert/execute.h"
#include "convert/plan.h"

namespace regauge {

/// What a conversion is going to write and to lose, before it does: size and bits per weight of each output, and which
/// tensors lose why, alike ones together. Nothing unless codes are chosen anew.
std::string render_lossy_plan(const Plan& plan);

/// What an output's lossy tensors lost by component (maximum, root mean square, relative to the source's norm, signal to
/// noise, quantization steps), then the worst of them. Nothing when nothing was lost.
std::string render_losses(const PlannedOutput& output, const OutputResult& result);

/// The figures of one tensor. Sums are rounded to six digits, which bands in any order have alike.
Json loss_to_json(const Loss& loss);

/// Bits of data for each element that tensors of the output have.
double bits_per_weight(const PlannedOutput& output);

}  // namespace regauge
