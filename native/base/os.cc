#include "base/os.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <new>
#include <vector>

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

// The quota of one group; 0 where there is none.
int group_quota(const std::string& folder, bool v2) {
  std::ifstream in(folder + (v2 ? "/cpu.max" : "/cpu.cfs_quota_us"));
  std::string most;
  double period = 0;
  if (!(in >> most) || most == "max" || most[0] == '-') return 0;
  if (v2)
    in >> period;
  else
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  return period > 0 ? std::max(1, static_cast<int>(std::ceil(std::strtod(most.c_str(), nullptr) / period))) : 0;
}

}  // namespace

int cpu_quota(const std::string& groups, const std::string& mount) {
  int least = 0;
  std::ifstream in(groups);
  for (std::string line; std::getline(in, line);) {       // hierarchy:controllers:group; the hierarchy 0 is v2
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    // From the group up to the mount itself. In a container the group may be named as the host sees it: such folders are not there.
    for (std::string group = line.substr(second + 1);; group.resize(group.rfind('/'))) {
      if (group == "/") group.clear();
      for (const std::string& folder : {mount + (v2 ? "" : "/cpu") + group, mount + (v2 ? "" : "/" + controllers) + group}) {
        const int quota = group_quota(folder, v2);
        if (quota && (!least || quota < least)) least = quota;
      }
      if (group.rfind('/') == std::string::npos) break;
    }
  }
  return least;
}

int cpu_count() {
  cpu_set_t set;
  const int mask = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  const int quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  return std::max(1, quota ? std::min(mask, quota) : mask);
}

bool allow_tiles() {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
  constexpr int kRequestState = 0x1023, kTileData = 18;   // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA (Linux 5.16 and later)
  return ::syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
#else
  return false;
#endif
}

bool nvidia_driver() { return ::access("/proc/driver/nvidia/version", F_OK) == 0; }

void* library_symbol(const std::string& library, const char* symbol, const char* folder) {
  std::vector<std::string> places;
  Dl_info here;
  if (::dladdr(reinterpret_cast<void*>(&library_symbol), &here) && here.dli_fname)
    places.push_back(std::string(here.dli_fname).substr(0, std::string(here.dli_fname).rfind('/') + 1) + library);
  if (const char* named = std::getenv(folder)) places.push_back(std::string(named) + "/" + library);
  for (const std::string& place : places) {
    if (::access(place.c_str(), R_OK)) continue;
    void* handle = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* found = handle ? ::dlsym(handle, symbol) : nullptr;
    if (!found)
      throw device_error(library + " is there but cannot be used; it does not fit this system or this version of jvlm. Take the one of the same version");
    return found;
  }
  return nullptr;
}

Library open_library(const std::string& name) {
  const bool place = name.find('/') != std::string::npos;
  if (place && ::access(name.c_str(), F_OK)) return {};
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle) return {handle, true};
  // The loader's sentence begins with what it could not use: the bare name where nothing was found, else the place of what was found or the name
  // of what that one needs. What follows is in the user's language.
  const char* sentence = ::dlerror();
  return {nullptr, place || (sentence && std::string(sentence).rfind(name + ":", 0) != 0)};
}

void* Library::symbol(const char* name) const { return ::dlsym(handle, name); }

}  // namespace jvlm::os
