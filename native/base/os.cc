#include "base/os.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <new>

#include "base/error.h"

namespace jvlm::os {

void read_file(const std::string& path, int64_t offset, void* out, int64_t bytes) {
  const std::string name = path.substr(path.rfind('/') + 1);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw model_format("The weights file " + name + " cannot be opened");
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t n = ::pread(fd, static_cast<char*>(out) + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += n;
  }
  ::close(fd);
  if (done < bytes) throw model_format("The weights file " + name + " ends too early; it changed or was cut since it was opened. Copy it again");
}

void* map_memory(int64_t bytes) {
  void* p = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  ::madvise(p, static_cast<size_t>(bytes), MADV_HUGEPAGE);   // advice: where it is refused, ordinary pages serve
  return p;
}

void unmap_memory(void* memory, int64_t bytes) { ::munmap(memory, static_cast<size_t>(bytes)); }

namespace {

// CPUs that a quota allows; 0 where there is none.
int quota(const char* file, const char* period_file) {
  std::ifstream in(file);
  std::string most;
  double period = 0;
  if (!(in >> most) || most == "max" || most[0] == '-') return 0;
  if (period_file)
    std::ifstream(period_file) >> period;
  else
    in >> period;
  return period > 0 ? std::max(1, static_cast<int>(std::ceil(std::stod(most) / period))) : 0;
}

}  // namespace

int cpu_count() {
  cpu_set_t set;
  int count = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  for (int limit : {quota("/sys/fs/cgroup/cpu.max", nullptr),
                    quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")})
    if (limit > 0) count = std::min(count, limit);
  return std::max(1, count);
}

}  // namespace jvlm::os
