#include "tests/fuzz/open_and_decode.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

#include <unistd.h>

#include "base/error.h"
#include "formats/format.h"
#include "ir/decode/tensor.h"

namespace regauge::fuzz {
namespace {

constexpr std::int64_t kMaxBandElements = 1 << 16;

void refuse_only_politely(const Error& error) {
  if (error.code() == ErrorCode::internal) std::abort();
}

void decode_bands(const Tensor& tensor) {
  TensorDecoder decoder(tensor);
  const std::int64_t rows = tensor.shape.rows();
  const std::int64_t columns = tensor.shape.columns();
  const std::int64_t step = decoder.row_quantum();
  if (rows == 0 || columns == 0 || step > kMaxBandElements / columns) return;
  std::vector<float> values(static_cast<std::size_t>(step * columns));
  for (const std::int64_t begin : {std::int64_t{0}, (rows - 1) / step * step}) {
    const RowRange band{begin, std::min(rows, begin + step)};
    decoder.decode(band, std::span(values).first(static_cast<std::size_t>(band.size() * columns)));
  }
}

struct ScratchFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("regauge-fuzz-" + std::to_string(static_cast<long>(::getpid())));

  ScratchFolder() { std::filesystem::create_directories(path); }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
};

}  // namespace

void open_and_decode(const std::filesystem::path& path) {
  try {
    const Checkpoint checkpoint = open_checkpoint(path);
    for (const Tensor& tensor : checkpoint.tensors) {
      try {
        decode_bands(tensor);
      } catch (const Error& error) {
        refuse_only_politely(error);
      }
    }
  } catch (const Error& error) {
    refuse_only_politely(error);
  }
}

std::filesystem::path scratch_path(const char* name) {
  static const ScratchFolder folder;
  return folder.path / name;
}

}  // namespace regauge::fuzz
