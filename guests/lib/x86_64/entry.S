/*
 * Start-up: from the PVH entry (32-bit, paging off) or the 64-bit entry (zero page in rsi), and from an AP's SIPI, to C++ in
 * long mode with page tables, GDT and stack of our own. Spec: Xen PVH boot ABI; Linux Documentation/arch/x86/boot.rst (64-bit).
 * The page tables lie ready-made in the image: filling them would be the slowest part of the start on an emulated CPU.
 */
    .set CODE32, 0x08
    .set DATA, 0x10
    .set CODE64, 0x18
    .set BOOT_ZERO_PAGE, 0
    .set BOOT_PVH, 1

    .section .text.entry64, "ax"
    .code64
    .globl entry64
entry64:
    cli
    cld
    movl $BOOT_ZERO_PAGE, %edi
    lgdt gdt_pointer(%rip)
    movl $pml4, %eax
    movq %rax, %cr3
    movl $boot_stack_top, %esp
    pushq $CODE64
    pushq $start64
    lretq

    .text
    .code32
    .globl pvh_entry
pvh_entry:
    cli
    cld
    movl %ebx, %esi
    movl $BOOT_PVH, %edi
    movl $boot_stack_top, %esp
    call enter_long_mode
    ljmp $CODE64, $start64

/* Leaves the CPU in compatibility mode, one far jump from long mode. */
enter_long_mode:
    lgdt gdt_pointer
    movl $0x20, %eax            /* CR4.PAE */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      /* EFER.LME */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax       /* CR0.PG, PE */
    andl $0x9fffffff, %eax      /* not CD, NW: an AP starts with its caches off */
    movl %eax, %cr0
    ret

    .code64
start64:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %edi, %ebx
    movl $__bss_start, %edi
    movl $__bss_end, %ecx
    subl %edi, %ecx
    shrl $3, %ecx
    xorl %eax, %eax
    rep stosq
    movl %ebx, %edi             /* guest_start(kind, boot information) */
    call guest_start
1:  cli
    hlt
    jmp 1b

/* Application processors: copied to a page below 1 MiB, entered in real mode with CS = page >> 4. */
    .globl ap_trampoline
    .globl ap_trampoline_end
    .code16
ap_trampoline:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdt_pointer - ap_trampoline
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $ap_start32
    .balign 4
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_trampoline_end:

    .code32
ap_start32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $1, %ebx
    lock xaddl %ebx, ap_stacks_taken
    movl %ebx, %esp
    shll $11, %esp              /* 2 KiB each */
    addl $ap_stacks + 2048, %esp
    call enter_long_mode
    ljmp $CODE64, $ap_start64
    .code64
    .weak guest_start_ap        /* only guests that send a SIPI have it */
ap_start64:
    movl %ebx, %edi
    call guest_start_ap
1:  cli
    hlt
    jmp 1b

/* 48 gates: 32 exceptions, 16 interrupts. Each stub leaves an error code and its vector on the stack. */
    .globl interrupt_stubs
    .balign 16
interrupt_stubs:
    .set vector, 0
    .rept 48
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp interrupt_common
    .set vector, vector + 1
    .endr

interrupt_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call on_interrupt
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* CODE32 */
    .quad 0x00cf93000000ffff    /* DATA */
    .quad 0x00af9b000000ffff    /* CODE64 */
gdt_end:
    .balign 8
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
    .balign 4
ap_stacks_taken:
    .long 0

/* The first 4 GiB one to one in 2 MiB pages; the second entry of the PML4 is the window of map_window(). */
    .balign 4096
    .globl pml4
pml4:
    .quad pdpt + 0x3
    .quad window_pdpt + 0x3
    .fill 510, 8, 0
pdpt:
    .quad pd + 0x3, pd + 0x1003, pd + 0x2003, pd + 0x3003
    .fill 508, 8, 0
window_pdpt:
    .quad window_pd + 0x3
    .fill 511, 8, 0
    .globl window_pd
window_pd:
    .fill 512, 8, 0
pd:
    .set page, 0
    .rept 2048
    .quad page * 0x200000 + 0x83
    .set page, page + 1
    .endr

    .section .noinit, "aw", @nobits
    .balign 16
    .skip 16384
boot_stack_top:
ap_stacks:
    .skip 256 * 2048
    .section .note.GNU-stack, "", @progbits
