#include "convert/journal.h"

#include <algorithm>
#include <cerrno>
#include <tuple>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/posix.h"
#include "convert/journal_lines.h"

namespace regauge {
namespace {

// A line is some 150 bytes and stands for megabytes: this is a conversion of hundreds of terabytes.
constexpr std::uint64_t kMaxJournalBytes = std::uint64_t{1} << 30;

constexpr std::string_view kLeftOver =
    "was left by a run that did not finish: --resume goes on with it, --force starts over";

/// The lines of a text that end in a line feed.
std::vector<std::string_view> whole_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool overlap(const Band& a, const Band& b) {
  return a.output == b.output && a.step == b.step && a.rows.begin < b.rows.end && b.rows.begin < a.rows.end;
}

bool comes_before(const BandRecord& a, const BandRecord& b) {
  return std::tie(a.band.output, a.band.step, a.band.rows.begin) <
         std::tie(b.band.output, b.band.step, b.band.rows.begin);
}

/// Sorted; of records that overlap the ones that were written last.
std::vector<BandRecord> latest(std::vector<BandRecord> records) {
  // Stable: of records that begin at one row the later line comes later.
  std::ranges::stable_sort(records, comes_before);
  std::vector<BandRecord> kept;
  for (BandRecord& record : records) {
    // Rows are redone only after a record of them did not hold, so the one before is of no use, however far it reaches.
    while (!kept.empty() && overlap(kept.back().band, record.band)) kept.pop_back();
    kept.push_back(std::move(record));
  }
  return kept;
}

}  // namespace

std::filesystem::path Journal::path_of(const std::filesystem::path& target) {
  auto path = target;
  path += ".partial.journal";
  return path;
}

Journal::Journal(const std::filesystem::path& target, const Fingerprint& fingerprint, Stale stale)
    : path_(path_of(target)) {
  lock();
  struct stat info{};
  if (::fstat(fd_.get(), &info) != 0) {
    throw Error(ErrorCode::io, "cannot be read: {}", system_message(errno)).at(path_.native());
  }
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size > kMaxJournalBytes) throw Error(ErrorCode::invalid, "is no journal of regauge").at(path_.native());
  load(read_text_file(path_, kMaxJournalBytes), fingerprint, stale);
}

void Journal::lock() {
  // As OutputFile does: the name may change hands between opening and locking.
  do {
    fd_ = FileDescriptor(retry_interrupted([&] {
      return ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0666);
    }));
    if (!fd_) {
      const int error = errno;
      if (error == ENOENT || error == ENOTDIR) {
        throw Error(ErrorCode::not_found, "there is no such folder to write to").at(path_.native());
      }
      throw Error(ErrorCode::io, "cannot be created: {}", system_message(error)).at(path_.native());
    }
    struct stat info{};
    if (::fstat(fd_.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      throw Error(ErrorCode::invalid, "exists and is not a regular file").at(path_.native());
    }
    if (!lock_exclusively(fd_.get(), path_)) {
      throw Error(ErrorCode::io, "is in use by another run").at(path_.native());
    }
  } while (!names_file(path_, fd_.get()));
}

void Journal::load(std::string_view text, const Fingerprint& fingerprint, Stale stale) {
  const auto lines = whole_lines(text);
  // Killed before its first line was whole: nothing had been written then.
  if (lines.empty()) {
    if (!text.empty() && !journal_lines::looks_like_head(text)) {
      throw Error(ErrorCode::invalid, "is no journal of regauge").at(path_.native());
    }
    return start(fingerprint);
  }
  if (!journal_lines::looks_like_head(lines.front())) {
    throw Error(ErrorCode::invalid, "is no journal of regauge").at(path_.native());
  }
  if (stale == Stale::replace) return start(fingerprint);
  if (stale == Stale::refuse) throw Error(ErrorCode::invalid, "{}", kLeftOver).at(path_.native());
  const auto head = journal_lines::parse_head(lines.front());
  if (stale == Stale::resume_or_replace && head != fingerprint) return start(fingerprint);
  if (!head) {
    throw Error(ErrorCode::invalid, "is damaged or of another version of regauge: --force starts over")
        .at(path_.native());
  }
  if (*head != fingerprint) {
    throw Error(ErrorCode::invalid, "cannot be resumed, {}: --force starts over", difference(*head, fingerprint))
        .at(path_.native());
  }
  resumed_ = true;
  std::uint64_t valid = lines.front().size() + 1;
  std::vector<BandRecord> records;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    if (auto record = journal_lines::parse_band(lines[i])) {
      records.push_back(std::move(*record));
    } else if (auto sealed = journal_lines::parse_sealed(lines[i])) {
      sealed_ = std::move(*sealed);
    } else {
      break;
    }
    valid += lines[i].size() + 1;
  }
  bands_ = latest(std::move(records));
  if (retry_interrupted([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(valid)); }) != 0) {
    throw Error(ErrorCode::io, "cannot be shortened: {}", system_message(errno)).at(path_.native());
  }
}

void Journal::start(const Fingerprint& fingerprint) {
  if (retry_interrupted([&] { return ::ftruncate(fd_.get(), 0); }) != 0) {
    throw Error(ErrorCode::io, "cannot be emptied: {}", system_message(errno)).at(path_.native());
  }
  add_line(journal_lines::head_line(fingerprint));
}

bool Journal::has_bands() const noexcept {
  const std::scoped_lock lock(mutex_);
  return has_new_bands_ || !bands_.empty();
}

void Journal::add(const BandRecord& record) {
  add_line(journal_lines::band_line(record));
  const std::scoped_lock lock(mutex_);
  has_new_bands_ = true;
}

void Journal::add(const std::vector<SealedOutput>& outputs) { add_line(journal_lines::sealed_line(outputs)); }

void Journal::add_line(std::string line) {
  line += '\n';
  const std::scoped_lock lock(mutex_);
  // A file opened for appending takes each write() as a whole, at its end.
  const ssize_t written = retry_interrupted([&] { return ::write(fd_.get(), line.data(), line.size()); });
  if (written < 0 || static_cast<std::size_t>(written) != line.size()) {
    throw Error(ErrorCode::io, "cannot be written: {}", system_message(written < 0 ? errno : ENOSPC))
        .at(path_.native());
  }
}

void Journal::remove() noexcept {
  // While the lock is held, so that nobody else's can have taken the name.
  if (fd_ && names_file(path_, fd_.get())) ::unlink(path_.c_str());
  fd_.reset();
}

}  // namespace regauge
