// CPUs that a process may use, from made-up control groups and a real affinity mask.
#include "base/os.h"

#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "check.h"

using namespace jvlm;
namespace fs = std::filesystem;

namespace {

// A folder as /sys/fs/cgroup with the files given, and a file as /proc/self/cgroup.
struct Groups {
  explicit Groups(const std::string& membership) {
    std::string name = (fs::temp_directory_path() / "jvlm-os-test-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    std::ofstream(folder / "membership") << membership;
  }
  ~Groups() { fs::remove_all(folder); }
  Groups& file(const std::string& path, const std::string& text) {
    fs::create_directories((folder / path).parent_path());
    std::ofstream(folder / path) << text;
    return *this;
  }
  int quota() const { return os::cpu_quota((folder / "membership").string(), folder.string()); }

  fs::path folder;
};

// Row 70 of the list of faults: the container's limit counts.
void f70_quota() {
  test::expect("f70 v2, no limit", Groups("0::/\n").file("cpu.max", "max 100000\n").quota() == 0);
  test::expect("f70 v2, two CPUs", Groups("0::/\n").file("cpu.max", "200000 100000\n").quota() == 2);
  test::expect("f70 v2, a part of one", Groups("0::/\n").file("cpu.max", "30000 100000\n").quota() == 1);
  test::expect("f70 v2, rounded up", Groups("0::/\n").file("cpu.max", "250000 100000\n").quota() == 3);
  test::expect("f70 v2, no file", Groups("0::/\n").quota() == 0);
  test::expect("f70 v2, damaged", Groups("0::/\n").file("cpu.max", "200000").quota() == 0);
  test::expect("f70 v2, a service", Groups("0::/system.slice/a.service\n").file("system.slice/a.service/cpu.max", "100000 100000\n").quota() == 1);
  test::expect("f70 v2, the slice above is smaller", Groups("0::/system.slice/a.service\n")
                                                         .file("system.slice/cpu.max", "200000 100000\n")
                                                         .file("system.slice/a.service/cpu.max", "400000 100000\n")
                                                         .quota() == 2);
  test::expect("f70 v2, named as the host sees it", Groups("0::/docker/0123\n").file("cpu.max", "300000 100000\n").quota() == 3);
  const char* v1 = "9:name=systemd:/x\n4:cpu,cpuacct:/x\n3:cpuset:/y\n";
  test::expect("f70 v1, no limit", Groups(v1).file("cpu/cpu.cfs_quota_us", "-1\n").file("cpu/cpu.cfs_period_us", "100000\n").quota() == 0);
  test::expect("f70 v1, two CPUs", Groups(v1).file("cpu/cpu.cfs_quota_us", "200000\n").file("cpu/cpu.cfs_period_us", "100000\n").quota() == 2);
  test::expect("f70 v1, mounted by both names",
               Groups(v1).file("cpu,cpuacct/x/cpu.cfs_quota_us", "150000\n").file("cpu,cpuacct/x/cpu.cfs_period_us", "50000\n").quota() == 3);
  test::expect("f70 other controllers do not count", Groups("3:cpuset:/y\n").file("cpu/cpu.cfs_quota_us", "100000\n").quota() == 0);
}

void f70_affinity() {
  cpu_set_t before, one;
  ::sched_getaffinity(0, sizeof before, &before);
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); ++i)
    if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
  const int all = os::cpu_count();
  ::sched_setaffinity(0, sizeof one, &one);
  test::expect("f70 affinity to one CPU", os::cpu_count() == 1);
  ::sched_setaffinity(0, sizeof before, &before);
  test::expect("f70 affinity given back", os::cpu_count() == all && all >= 1 && all <= CPU_COUNT(&before));
}

}  // namespace

int main() {
  f70_quota();
  f70_affinity();
  return test::report("os");
}
