#pragma once

#include <cstdint>
#include <vector>

#include "convert/route/repack_gptq.h"
#include "formats/layouts/marlin.h"

namespace regauge {

/// Canonical codes, scales and zero points of a band of output rows, and the arrays of a GPTQ or Marlin module that hold
/// them. Immutable: any thread may use it with its own Scratch.
class GptqPacker {
 public:
  GptqPacker(GptqRepack module, std::int64_t columns);

  const GptqRepack& module() const { return module_; }
  std::int64_t groups() const { return groups_; }

  /// Packs what `scratch` holds of `rows` into the buffers of arrays_of(): block_codes [n, columns], d_bits [n, groups] of
  /// scales in module().scale, zeros [n, groups]. Overwrites them.
  void pack(RowRange rows, BandBuffers out, Scratch& scratch) const;
  /// Whether the codes may come as `stream`, the rows as LSB-first bit streams of the module's width, in place of
  /// block_codes: words of such a stream are those of qweight.
  bool takes_stream() const;
  /// Packs `tile`, of which `scratch` holds the rest, into the buffers of the band `rows` that it is a part of; both are
  /// multiples of 32 rows.
  void pack_stream(RowRange rows, RowRange tile, BandBuffers out, Scratch& scratch,
                   std::span<const std::byte> stream) const;
  /// The values that packed rows stand for, n * columns of them.
  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const;

 private:
  void pack_words(RowRange rows, BandBuffers out, Scratch& scratch) const;
  void pack_parameters(RowRange rows, RowRange tile, BandBuffers out, Scratch& scratch) const;
  void pack_marlin(RowRange rows, BandBuffers out, Scratch& scratch) const;
  void unpack_marlin(std::int64_t n, StoredBuffers stored, Scratch& scratch, std::span<std::byte> scales) const;

  GptqRepack module_;
  std::int64_t columns_ = 0;
  std::int64_t groups_ = 0;
  std::vector<std::int32_t> sort_;
  layouts::MarlinScaleOrder order_ = layouts::MarlinScaleOrder::grouped;
};

}  // namespace regauge
