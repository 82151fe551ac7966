/* The forker's bytes inside our program. */
#include "sandbox/forker.h"

__asm__(".pushsection .rodata, \"a\", @progbits\n"
        ".balign 16\n"
        ".globl forker_image\n"
        ".hidden forker_image\n"
        "forker_image:\n"
        ".incbin \"" FORKER_FILE "\"\n"
        "forker_image_end:\n"
        ".balign 8\n"
        ".globl forker_image_size\n"
        ".hidden forker_image_size\n"
        "forker_image_size:\n"
        ".quad forker_image_end - forker_image\n"
        ".popsection\n");
