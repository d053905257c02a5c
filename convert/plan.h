#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/finding.h"
#include "convert/adapt.h"
#include "convert/fidelity.h"
#include "convert/options.h"
#include "convert/route/row_maker.h"
#include "formats/format.h"

namespace regauge {

/// Which bytes of an array a band of target rows makes.
enum class BandLayout : std::uint8_t {
  rows,     ///< a run: the array lies row by row, as the target does
  columns,  ///< a strip of every stored row: the array is the target's transpose (GPTQ, Marlin)
  whole,    ///< all of it, with the first band
};

struct StepArray {
  ArrayPlan plan;
  BandLayout layout = BandLayout::rows;
};

/// What happens to one tensor of an output, decided before anything is written.
struct Step {
  std::string name;               ///< of the tensor in the target's dialect
  Shape shape;                    ///< logical
  std::vector<StepArray> arrays;  ///< that it is stored in
  std::string source_encoding;    ///< "u4 g128 f16 zp", or several joined by " + "
  std::string encoding;           ///< of the target, likewise
  Route route = Route::copy;
  Fidelity fidelity = Fidelity::bytes;  ///< promised; a run that measures better says so in its report
  std::string reason;                   ///< why this route and not a better one; empty for plain copies
  Component component = Component::other;
  std::int64_t quantum = 1;  ///< bands are cut at multiples of it
  RowMakerPtr maker;
  std::optional<PackedModule> module;  ///< where the format stores codes and scales apart

  std::uint64_t bytes() const;
};

struct PlannedOutput {
  OutputKind kind = OutputKind::model;
  std::filesystem::path path;
  bool directory = false;
  Metadata metadata;
  std::vector<CarriedFile> files;  ///< of a directory
  std::vector<KeptFile> kept;      ///< files of arrays that it takes over; then what is new goes to `new_file`
  std::string new_file;
  std::vector<Target> targets;  ///< one for each step; makers point into it
  std::vector<Step> steps;

  std::uint64_t data_bytes() const;
};

/// The whole of a conversion as a value: what would be written where, by which route, at what fidelity. Refers to the
/// checkpoint it was made from, which must outlive it.
struct Plan {
  std::string format;
  std::vector<const Checkpoint*> sources;  ///< together one model
  std::vector<PlannedOutput> outputs;
  std::vector<LeftOut> left_out;
  Findings findings;
  std::vector<std::unique_ptr<const Tensor>> restored;  ///< see Adaptation

  Fidelity worst() const;
  std::uint64_t data_bytes() const;
};

/// Decides. Reads headers and small parameter arrays (scales, zeros, group indices), and codes only where nothing else
/// tells. Throws Error{refused} before anything is written when a tensor would lose more than `options` permits, listing
/// the offenders and the flags that let them pass; the other errors of adapt(). Several paths are one
/// model: a GGUF and the mmproj file that goes with it.
Plan plan_conversion(std::span<const OpenedPath> sources, const std::filesystem::path& target,
                     const ConvertOptions& options);
Plan plan_conversion(const Checkpoint& source, const Architecture* architecture, const std::filesystem::path& target,
                     const ConvertOptions& options);

/// Throws Error{refused} naming `offenders` and the ways out; nothing when there are none.
void refuse_offenders(std::string_view format, const std::vector<std::string>& offenders);

/// Throws Error{refused} when anything of `plan` would arrive less well than `required`.
void check_required(const Plan& plan, Fidelity required);

/// Adds the values of arrays that a convention changes beyond return to the keys of a GGUF file (models/original_values.h).
void keep_originals(const OpenedPath& source, const PlannedOutput& output, Metadata& keys);

/// Where an output of that kind goes beside the model: d/NAME.gguf, d/mmproj-NAME.gguf ...
std::filesystem::path output_path(const std::filesystem::path& target, OutputKind kind);

}  // namespace regauge
