/*
 * Start-up: from the entry of an arm64 boot image (EL1, MMU off, x0 at the devicetree), and from CPU_ON, to C++ with MMU, caches,
 * vectors and a stack of our own. Spec: Linux Documentation/arch/arm64/booting.rst; Arm ARM DDI 0487 D8, D17.2; PSCI DEN 0022 §5.6.
 * Nothing is written before the caches are on: what the loader put into memory may lie in them.
 */
    .section .head.start, "ax"
    .globl image_head
image_head:
    b start
    .long 0
    .section .head.rest, "ax"   /* text_offset, size and flags lie between: guest.ld */
    .quad 0, 0, 0
    .ascii "ARM\x64"
    .long 0

    .text
start:
    msr daifset, #15
    mov x19, x0
    bl enable_mmu

    adrp x20, image_head        /* linked at 0: this is what relocations add */
    adrp x1, __rela_start
    add x1, x1, :lo12:__rela_start
    adrp x2, __rela_end
    add x2, x2, :lo12:__rela_end
1:  cmp x1, x2
    b.hs 2f
    ldp x3, x4, [x1], #16
    ldr x5, [x1], #8
    cmp w4, #1027               /* R_AARCH64_RELATIVE */
    b.ne 1b
    add x5, x5, x20
    str x5, [x20, x3]
    b 1b
2:  adrp x1, __bss_start
    add x1, x1, :lo12:__bss_start
    adrp x2, __bss_end
    add x2, x2, :lo12:__bss_end
3:  cmp x1, x2
    b.hs 4f
    stp xzr, xzr, [x1], #16
    b 3b
4:  adrp x1, boot_stack_top
    add x1, x1, :lo12:boot_stack_top
    mov sp, x1
    msr tpidr_el0, xzr          /* the processor's index */
    mov x0, x19
    bl guest_start
5:  wfi
    b 5b

/* Application processors: x0 is the index that start_others() gave. */
    .globl ap_entry
ap_entry:
    msr daifset, #15
    mov x19, x0
    bl enable_mmu
    adrp x1, ap_stacks
    add x1, x1, :lo12:ap_stacks
    add x1, x1, x19, lsl #12    /* 4 KiB each; the first index is 1 */
    mov sp, x1
    msr tpidr_el0, x19
    mov x0, x19
    .weak guest_start_ap        /* only guests that start others have it */
    bl guest_start_ap
1:  wfi
    b 1b

enable_mmu:
    mov x1, #0xff04             /* MAIR: 0 is Device-nGnRE, 1 is Normal write-back, 2 is Normal non-cacheable */
    movk x1, #0x0044, lsl #16
    msr mair_el1, x1
    mov x1, #0x3519             /* TCR: 39 bits, walks write-back and inner shareable, 4 KiB granule */
    movk x1, #0x0080, lsl #16   /* EPD1 */
    mrs x2, id_aa64mmfr0_el1
    and x2, x2, #7
    cmp x2, #5
    mov x3, #5
    csel x2, x2, x3, lo
    orr x1, x1, x2, lsl #32     /* IPS */
    msr tcr_el1, x1
    adrp x1, translation_table
    msr ttbr0_el1, x1
    isb
    tlbi vmalle1
    ic iallu
    dsb nsh
    isb
    mov x1, #0x1805             /* SCTLR: M, C, I, and what is always set; no alignment check */
    movk x1, #0x30d0, lsl #16
    msr sctlr_el1, x1
    isb
    ret

/* Frame of exceptions.h: x0 to x30, ELR, SPSR, ESR, FAR. */
    .set FRAME, 288
    .macro vector number
    .balign 128
    sub sp, sp, #FRAME
    stp x0, x1, [sp]
    mov x1, #\number
    b vector_common
    .endm

    .balign 2048
    .globl exception_vectors
exception_vectors:
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vector \number
    .endr

vector_common:
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
    mrs x2, elr_el1
    stp x30, x2, [sp, #240]
    mrs x2, spsr_el1
    mrs x3, esr_el1
    stp x2, x3, [sp, #256]
    mrs x2, far_el1
    str x2, [sp, #272]
    mov x0, sp
    bl on_vector
    ldr x2, [sp, #256]
    msr spsr_el1, x2
    ldp x30, x2, [sp, #240]
    msr elr_el1, x2
    ldp x28, x29, [sp, #224]
    ldp x26, x27, [sp, #208]
    ldp x24, x25, [sp, #192]
    ldp x22, x23, [sp, #176]
    ldp x20, x21, [sp, #160]
    ldp x18, x19, [sp, #144]
    ldp x16, x17, [sp, #128]
    ldp x14, x15, [sp, #112]
    ldp x12, x13, [sp, #96]
    ldp x10, x11, [sp, #80]
    ldp x8, x9, [sp, #64]
    ldp x6, x7, [sp, #48]
    ldp x4, x5, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp]
    add sp, sp, #FRAME
    eret

/*
 * One to one, in blocks of 1 GiB: the first one and the one at 256 GiB (further redistributors) are devices, the others memory.
 * The last one shows the first once more, as memory, for accesses that device memory does not allow: any_alignment() of cpu.h.
 */
    .section .rodata.translation, "a"
    .balign 4096
translation_table:
    .set block, 0
    .rept 512
    .if (block == 0) || (block == 256)
    .quad (block << 30) + 0x0060000000000401    /* Device; AF, never executed */
    .elseif block == 511
    .quad 0x0060000000000409    /* Normal non-cacheable; AF, never executed */
    .else
    .quad (block << 30) + 0x0000000000000705    /* Normal, inner shareable; AF */
    .endif
    .set block, block + 1
    .endr

    .section .noinit, "aw", @nobits
    .balign 16
    .skip 16384
boot_stack_top:
    .balign 4096
ap_stacks:
    .skip 256 * 4096
    .section .note.GNU-stack, "", @progbits
