# One form: NAME, an arm64 boot image (the head is in entry.S and guest.ld), and beside it NAME.elf for debuggers. The code finds its place
# itself: it is linked at 0 and applies its relative relocations.
list(APPEND guest_flags -fpie -fvisibility=hidden -mgeneral-regs-only -mno-outline-atomics -mbranch-protection=none)
set(guest_link_flags -static-pie)
set(guest_arch_programs its mmio_access)
set(guest_idle_forms idle)

set(guest_lib_sources boot_info.cc entry.S exceptions.cc fdt.cc gic.cc machine.cc memory.cc pl011.cc power.cc processors.cc timer.cc)
list(TRANSFORM guest_lib_sources PREPEND lib/aarch64/)
set(guest_virtio_sources lib/aarch64/virtio_devices.cc)

# guest_program(NAME sources...)
function(guest_program name)
  guest_link(${name} 0 ${ARGN})
  set_target_properties(guest_${name} PROPERTIES OUTPUT_NAME ${name}.elf)
  guest_flat(${name} ${name})
endfunction()
