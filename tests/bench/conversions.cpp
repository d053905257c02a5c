// Whole conversions of slices of a 27B model, each beside `cp` of the same source in the same run. What matters are the
// ratios: the disk and the neighbours on a machine change from minute to minute.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "tests/support/filled_checkpoint.h"
#include "tests/support/oracle.h"
#include "tests/support/oracle_quantize.h"

namespace {

namespace fs = std::filesystem;
using regauge::testing::make_slice_of_27b;
using regauge::testing::ShapesRecipe;

struct Options {
  std::uint64_t megabytes = 1600;
  int threads = 2;
  int repeats = 3;
  fs::path folder = fs::temp_directory_path() / "regauge-bench";
  std::string only;  ///< rows with this in their name
};

struct Measured {
  double seconds = 0;
  double cpu_seconds = 0;            ///< of user and system together
  std::uint64_t peak_anonymous = 0;  ///< largest RssAnon seen, bytes
};

/// RssAnon of a process: what it holds beyond the page cache.
std::uint64_t anonymous_bytes(pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) * 1024;
  }
  return 0;
}

/// Runs `work` in a process of its own.
Measured measure(const std::function<int()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) _exit(work());
  Measured measured;
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, WNOHANG, &usage) == 0) {
    measured.peak_anonymous = std::max(measured.peak_anonymous, anonymous_bytes(child));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  measured.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  measured.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("a command failed");
  return measured;
}

Measured measure_command(std::vector<std::string> arguments) {
  return measure([&] {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execvp(argv.front(), argv.data());
    return 127;
  });
}

void flush_files(const fs::path& path) {
  const auto flush = [](const fs::path& file) {
    const int fd = open(file.c_str(), O_RDONLY);
    if (fd < 0 || fsync(fd) != 0) throw std::runtime_error("cannot flush " + file.string());
    close(fd);
  };
  if (!fs::is_directory(path)) return flush(path);
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) flush(entry.path());
  }
}

std::uint64_t bytes_of(const fs::path& path) {
  if (!fs::is_directory(path)) return fs::file_size(path);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    bytes += entry.is_regular_file() ? entry.file_size() : 0;
  return bytes;
}

struct Row {
  std::string name;
  std::string source;  ///< in the folder
  std::string target;
  std::vector<std::string> arguments;    ///< of regauge convert, after source and target
  std::optional<std::string> file_type;  ///< llama-quantize's name of the same conversion
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {}

  /// Sources that nothing of regauge made, then those that are the same numbers in another format.
  void make_sources() {
    fs::create_directories(options_.folder);
    const std::uint64_t bytes = options_.megabytes * 1'000'000;
    make("gptq", {.storage = ShapesRecipe::Storage::gptq, .desc_act = false}, bytes);
    make("mlx", {.storage = ShapesRecipe::Storage::mlx, .group = 64}, bytes);
    make("bf16", {.storage = ShapesRecipe::Storage::bf16}, bytes);
    convert("gptq", "q4_0.gguf", {});
    convert("gptq", "mlx-from-gptq", {"--to", "mlx"});
    convert("bf16", "bf16.gguf", {});
  }

  void run(const Row& row) {
    if (row.name.find(options_.only) == std::string::npos) return;
    const fs::path source = options_.folder / row.source;
    const fs::path target = options_.folder / ("out-" + row.target);
    const fs::path copy = options_.folder / ("copy-" + row.source);
    Measured copied{1e9, 1e9, 0};
    double flushed = 1e9;
    Measured converted{1e9, 1e9, 0};
    std::optional<Measured> reference;
    for (int i = 0; i < options_.repeats; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      keep_better(copied, measure_command({"cp", "-r", "--reflink=never", source, copy}));
      flush_files(copy);
      flushed = std::min(flushed, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      fs::remove_all(copy);
      keep_better(converted, convert(row.source, "out-" + row.target, row.arguments));
      if (row.file_type) {
        if (!reference) reference = Measured{1e9, 1e9, 0};
        keep_better(*reference, quantize(source, options_.folder / "reference.gguf", *row.file_type));
      }
    }
    print(row, bytes_of(source), bytes_of(target), copied, flushed, converted, reference);
    if (row.file_type) {
      const bool equal =
          std::system(fmt::format("cmp -s '{}' '{}'", target.string(), (options_.folder / "reference.gguf").string())
                          .c_str()) == 0;
      fmt::print("{:28} {} llama.cpp's file\n", "", equal ? "byte for byte" : "other bytes than");
      fs::remove(options_.folder / "reference.gguf");
    }
    fs::remove_all(target);
  }

  static void print_head() {
    fmt::print("{:28} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>7} {:>7} {:>9} {:>8}\n", "", "source", "target", "cp",
               "cp+fsync", "regauge", "CPU", "of cp", "+fsync", "anonymous", "times");
    fmt::print("{:28} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>7} {:>7} {:>9} {:>8}\n", "", "MB", "MB", "s", "s", "s",
               "s", "", "", "MiB", "llama");
    std::fflush(stdout);
  }

 private:
  void make(const std::string& name, const ShapesRecipe& recipe, std::uint64_t bytes) {
    if (fs::exists(options_.folder / name)) return;
    fs::create_directory(options_.folder / name);
    write_filled_checkpoint(options_.folder / name, make_slice_of_27b(recipe, bytes), 3);
  }

  Measured convert(const std::string& from, const std::string& to, const std::vector<std::string>& arguments) const {
    const fs::path target = options_.folder / to;
    if (!to.starts_with("out-") && fs::exists(target)) return {};
    fs::remove_all(target);
    std::vector<std::string> command = {REGAUGE_CLI, "convert",   options_.folder / from,          target,
                                        "--quiet",   "--threads", std::to_string(options_.threads)};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return measure_command(command);
  }

  Measured quantize(const fs::path& from, const fs::path& to, const std::string& type) const {
    fs::remove(to);
    return measure([&] {
      return regauge::testing::oracle_quantize(from, to, regauge::testing::oracle_file_type(type),
                                               {.threads = options_.threads})
                 ? 0
                 : 1;
    });
  }

  static void keep_better(Measured& best, const Measured& now) {
    best.seconds = std::min(best.seconds, now.seconds);
    best.cpu_seconds = std::min(best.cpu_seconds, now.cpu_seconds);
    best.peak_anonymous = std::max(best.peak_anonymous, now.peak_anonymous);
  }

  static void print(const Row& row, std::uint64_t source, std::uint64_t target, const Measured& copied, double flushed,
                    const Measured& converted, const std::optional<Measured>& reference) {
    fmt::print("{:28} {:8} {:8} {:7.2f} {:8.2f} {:8.2f} {:7.2f} {:7.2f} {:7.2f} {:9} {:>8}\n", row.name,
               source / 1'000'000, target / 1'000'000, copied.seconds, flushed, converted.seconds,
               converted.cpu_seconds, copied.seconds / converted.seconds, flushed / converted.seconds,
               converted.peak_anonymous >> 20,
               reference ? fmt::format("{:.2f}", reference->seconds / converted.seconds) : "");
    std::fflush(stdout);
  }

  Options options_;
};

std::vector<Row> repacks() {
  return {
      {"GPTQ 4 g128 -> GGUF Q4_0", "gptq", "a.gguf", {}, {}},
      {"GPTQ 4 g128 -> MLX 4", "gptq", "a", {"--to", "mlx"}, {}},
      {"GGUF Q4_0 -> GPTQ 4", "q4_0.gguf", "a", {"--to", "gptq"}, {}},
      {"GGUF Q4_0 -> MLX 4", "q4_0.gguf", "a", {"--to", "mlx"}, {}},
      {"MLX 4 (of GPTQ) -> GPTQ 4", "mlx-from-gptq", "a", {"--to", "gptq"}, {}},
      {"MLX 4 (of GPTQ) -> Q4_0", "mlx-from-gptq", "a.gguf", {}, {}},
      {"MLX 4 g64 -> GGUF Q4_1", "mlx", "a.gguf", {}, {}},
      {"BF16 -> GGUF BF16", "bf16", "a.gguf", {}, {}},
  };
}

/// Out of one BF16 file, by regauge and by llama_model_quantize with as many threads.
std::vector<Row> quantizations() {
  std::vector<Row> rows;
  for (const char* type : {"Q8_0", "Q4_0", "Q6_K", "Q4_K_M"}) {
    rows.push_back({std::string("BF16 GGUF -> ") + type, "bf16.gguf", "a.gguf", {"--recipe", type}, type});
  }
  return rows;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--megabytes") {
      options.megabytes = std::stoull(value);
    } else if (flag == "--threads") {
      options.threads = std::stoi(value);
    } else if (flag == "--repeats") {
      options.repeats = std::stoi(value);
    } else if (flag == "--folder") {
      options.folder = value;
    } else if (flag == "--only") {
      options.only = value;
    } else {
      throw std::invalid_argument("no option " + flag);
    }
  }
  if (argc % 2 == 0) throw std::invalid_argument("every option has a value");
  return options;
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  Bench bench(options);
  bench.make_sources();
  Bench::print_head();
  for (const Row& row : repacks()) bench.run(row);
  for (const Row& row : quantizations()) bench.run(row);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\nusage: {} [--megabytes 1600] [--threads 2] [--repeats 3] [--folder DIR] [--only TEXT]\n",
             error.what(), argv[0]);
  return 2;
}
