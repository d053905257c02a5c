#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "convert/bands.h"
#include "convert/fingerprint.h"

namespace regauge {

/// A band whose bytes have been put.
struct BandRecord {
  Band band;
  Loss loss;
  bool verified = false;
  std::vector<Digest128> digests;  ///< of the band's bytes of each array, strips laid end to end
};

/// An output that was complete under its partial name, by what a rename leaves alone.
struct SealedOutput {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t modified_ns = 0;  ///< 0 for a directory
  std::uint64_t file_bytes = 0;

  bool operator==(const SealedOutput&) const = default;
};

enum class Stale : std::uint8_t {
  refuse,             ///< a journal that lies there is an error
  resume,             ///< it is gone on with; one of another conversion is an error
  resume_or_replace,  ///< it is gone on with where it can be, else discarded
  replace,            ///< it is discarded
};

/// What a run that is killed leaves for the next: TARGET.partial.journal, a text file of one line for the conversion and
/// one for each finished band. A line ends in its own checksum, so that one which was cut short is none; what follows it
/// is forgotten. Locked while it is open. Lines may be added from any thread.
class Journal {
 public:
  static std::filesystem::path path_of(const std::filesystem::path& target);

  /// Opens or creates the journal beside `target`. Throws Error{invalid} when one of a run that did not finish lies there
  /// and `stale` refuses it, or resumes it and it is of another conversion, with what changed; Error{io} when another run
  /// has it open; Error{not_found} when the folder is not there.
  Journal(const std::filesystem::path& target, const Fingerprint& fingerprint, Stale stale);

  /// What an earlier run recorded; of two lines about the same rows the later one.
  const std::vector<BandRecord>& bands() const noexcept { return bands_; }
  /// One for each output when the earlier run had completed all of them, else empty.
  const std::vector<SealedOutput>& sealed() const noexcept { return sealed_; }
  /// Whether it was there, of this very conversion, and is gone on with.
  bool resumed() const noexcept { return resumed_; }
  /// Whether there is anything to go on with, by this run or an earlier one.
  bool has_bands() const noexcept;

  /// Each is one write(): it survives the death of the process, and a power failure costs what was not yet on the disk.
  void add(const BandRecord& record);
  void add(const std::vector<SealedOutput>& outputs);

  /// Deletes the file: the conversion is done, or nothing of it is worth keeping.
  void remove() noexcept;

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  void lock();
  void load(std::string_view text, const Fingerprint& fingerprint, Stale stale);
  void start(const Fingerprint& fingerprint);
  void add_line(std::string line);

  std::filesystem::path path_;
  FileDescriptor fd_;
  std::vector<BandRecord> bands_;
  std::vector<SealedOutput> sealed_;
  mutable std::mutex mutex_;
  bool resumed_ = false;
  bool has_new_bands_ = false;
};

}  // namespace regauge
