/*
 * The head of a bzImage: one setup sector with the header, then the protected-mode part, whose 64-bit entry is its byte 0x200.
 * Spec: Linux Documentation/arch/x86/boot.rst, protocol 2.15. There is no real-mode code and no 32-bit entry. The linker script puts
 * this section right below the program.
 */
    .set PROTECTED, 0x400       /* file offset of the protected-mode part */
    .section .bzimage, "a", @progbits
    .org 0x1f1
    .byte 1                     /* setup_sects */
    .org 0x1f4
    .long bzimage_syssize       /* in 16 bytes */
    .org 0x1fe
    .word 0xaa55
    .byte 0xeb, 0x6c - 2        /* jump: its target is the header's end, 0x26c */
    .ascii "HdrS"
    .word 0x020f                /* version */
    .org 0x211
    .byte 0x01                  /* loadflags: LOADED_HIGH */
    .org 0x214
    .long 0x100000              /* code32_start */
    .org 0x22c
    .long 0x7fffffff            /* initrd_addr_max */
    .long 0x100000              /* kernel_alignment */
    .org 0x236
    .word 0x0001                /* xloadflags: XLF_KERNEL_64 */
    .long 2047                  /* cmdline_size */
    .org 0x258
    .quad 0x100000              /* pref_address */
    .long guest_end - 0x100000  /* init_size */
    .org PROTECTED
    .code32
1:  cli
    hlt
    jmp 1b
    .org PROTECTED + 0x200
    .section .note.GNU-stack, "", @progbits
