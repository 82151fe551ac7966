/* The shim's file inside our program, so that a sandbox needs nothing from the disk. */
#include "sandbox/shim.h"

__asm__(".pushsection .rodata, \"a\", @progbits\n"
        ".balign 16\n"
        ".globl shim_image\n"
        ".hidden shim_image\n"
        "shim_image:\n"
        ".incbin \"" SHIM_FILE "\"\n"
        "shim_image_end:\n"
        ".balign 8\n"
        ".globl shim_image_size\n"
        ".hidden shim_image_size\n"
        "shim_image_size:\n"
        ".quad shim_image_end - shim_image\n"
        ".popsection\n");
