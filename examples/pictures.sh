#!/bin/sh
# pictures.sh DIRECTORY: makes some pictures there (plain PGM), for pictures.zp.
mkdir -p "$1" || exit 1
for i in 1 2 3 4 5 6; do
    awk -v i=$i 'BEGIN {
        size = 32 * i
        print "P2", size, size, 255
        for (y = 0; y < size; y++)
            for (x = 0; x < size; x++)
                print (x * i + y * y) % 256
    }' > "$1/picture $i.pgm" || exit 1
done
