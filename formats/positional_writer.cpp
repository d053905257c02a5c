#include "formats/positional_writer.h"

namespace regauge {

OutputOptions output_options(const WriteOptions& options) {
  return {.overwrite = options.overwrite,
          .replace_partial = options.replace_partial,
          .resume = options.resume,
          .on_failure = options.keep_partial ? OnFailure::keep : OnFailure::remove};
}

PositionalWriter::PositionalWriter(const std::filesystem::path& target, const WriteOptions& options)
    : output_(OutputFile::create(target, output_options(options))), resumes_(options.resume) {}

}  // namespace regauge
