// floor: the least that can show a PVH guest's first byte. Raw KVM calls in the cheapest order (memory slots before the
// interrupt controller and the vCPU), no checks beyond what a wrong set-up would need to be noticed. bench/startup
// compares with it.
//   floor KERNEL [MIB]
#include <elf.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const size_t ram_size = (argc > 2 ? strtoul(argv[2], nullptr, 10) : 128) << 20;
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  const int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  void* map = mmap(nullptr, ram_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  auto* ram = static_cast<unsigned char*>(map);
  kvm_userspace_memory_region slot{0, 0, 0, ram_size, reinterpret_cast<uint64_t>(ram)};
  if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) != 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0) return 3;
  const int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  const int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  void* shared = mmap(nullptr, static_cast<size_t>(run_size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  auto* run = static_cast<kvm_run*>(shared);

  const int kernel = open(argv[1], O_RDONLY | O_CLOEXEC);
  Elf64_Ehdr elf{};
  if (pread(kernel, &elf, sizeof(elf), 0) != sizeof(elf) || memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0) return 4;
  for (int i = 0; i < elf.e_phnum; i++) {
    Elf64_Phdr part{};
    if (pread(kernel, &part, sizeof(part), static_cast<off_t>(elf.e_phoff + i * sizeof(part))) != sizeof(part))
      return 4;
    if (part.p_type != PT_LOAD) continue;
    if (pread(kernel, ram + part.p_paddr, part.p_filesz, static_cast<off_t>(part.p_offset)) < 0) return 4;
  }

  kvm_sregs sregs{};
  ioctl(vcpu, KVM_GET_SREGS, &sregs);
  const kvm_segment data{0, 0xffffffff, 0x10, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0};
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.cs = data;
  sregs.cs.type = 11;
  sregs.cs.selector = 8;
  sregs.cr0 = 1;  // protected mode, paging off
  kvm_regs regs{};
  regs.rip = elf.e_entry;
  regs.rflags = 2;
  if (ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0 || ioctl(vcpu, KVM_SET_REGS, &regs) != 0) return 5;

  while (ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO) {
    const unsigned char* bytes = static_cast<unsigned char*>(shared) + run->io.data_offset;
    if (run->io.port == 0x3f8 && write(STDOUT_FILENO, bytes, 1) != 1) return 6;
    if (run->io.port == 0x600) _exit(0);
  }
  return 7;
}
