# The probe's guest (compute_agent.probe): a boot sector that does what every kernel does on its way up. It enters
# protected mode, takes an interrupt and returns from it, enters long mode, does so again, and then writes 0x2a to
# port 0xf4. A processor that only gets through real mode, as KVM nested without the right extensions, fails at the
# first return.
#
# Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, sections 10.8 and 10.9.
#
#   as --64 -o guest.o probe_guest.s
#   ld -m elf_x86_64 -Ttext=0x7c00 --oformat binary -o guest.bin guest.o

        .intel_syntax noprefix
        .globl  _start

        .set    PML4, 0x1000
        .set    PDPT, 0x2000
        .set    PD,   0x3000

        .code16
_start: cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        # Page tables: all zero but for one page of 2 MiB at 0.
        mov     edi, PML4
        mov     cx, 3 * 1024
        xor     eax, eax
        rep     stosd
        mov     dword ptr [PML4], PDPT + 3
        mov     dword ptr [PDPT], PD + 3
        mov     dword ptr [PD], 0x83
        lgdt    [gdtr]
        lidt    [idtr32]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    8, offset protected

        .code32
protected:
        mov     ax, 16
        mov     ds, ax
        mov     ss, ax
        mov     esp, 0x7c00
        int     0
        mov     eax, PML4
        mov     cr3, eax
        mov     eax, cr4
        or      al, 0x20                # PAE
        mov     cr4, eax
        mov     ecx, 0xc0000080         # EFER
        rdmsr
        or      ah, 1                   # LME
        wrmsr
        mov     eax, cr0
        or      eax, 0x80000000         # PG
        mov     cr0, eax
        ljmp    24, offset long
return32:
        iretd

        .code64
long:   lidt    [idtr64]
        int     0
        mov     al, 0x2a
        out     0xf4, al
stop:   hlt
        jmp     stop
return64:
        iretq

        .align  8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff      # 8: code, 32 bits
        .quad   0x00cf92000000ffff      # 16: data
        .quad   0x00af9a000000ffff      # 24: code, 64 bits
        # Interrupt gates for vector 0. Everything here lies below 64 KiB.
idt32:  .word   return32, 8, 0x8e00, 0
idt64:  .word   return64, 24, 0x8e00, 0, 0, 0, 0, 0
gdtr:   .word   31
        .long   gdt
idtr32: .word   7
        .long   idt32
idtr64: .word   15
        .quad   idt64

        .org    510
        .word   0xaa55
