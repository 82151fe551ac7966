#!/bin/sh
# check_documents.sh ZPIPE: what the documents say of the tree is so.  Paths they name exist, ARCHITECTURE.md names every source
# file, DIFFERENCES.md names every row of differences.test and no other, SOURCES.md every golden program, zpipe(1) has every option of --help,
# and no line of code is wider than CONTRIBUTING.md says.
zpipe=$1
cd "$(dirname "$0")/.." || exit 2
bad() { echo "$*"; }
said=$(
    for page in README.md CONTRIBUTING.md NEWS.md docs/*.md examples/README.md; do
        grep -oE '`[a-z]+/[a-zA-Z0-9_./-]+`' "$page" | tr -d '`' | grep -v '^build/' | while read -r path; do
            [ -e "$path" ] || bad "$page names $path, which is not there"
        done
    done
    for file in base/*.c proto/*.c dsl/*.c store/*.c sandbox/*.c scheduler/*.c worker/*.c client/*.c embed/*.c cli/*.c cli/serve/*.c cli/keeper/*.c; do
        [ -e "$file" ] || continue
        name=${file##*/}
        folder=${file%%/*}
        sed -n "/^[*][*]$folder[*][*]$/,/^$/p" docs/ARCHITECTURE.md | grep -q "\`${name%.c}\`" || bad "docs/ARCHITECTURE.md says nothing of $file"
    done
    awk 'length($0) > 160 { print FILENAME ": line " FNR " is wider than the 160 columns that CONTRIBUTING.md allows" }' */*.[ch] */*/*.[ch] */*.def
    rows=$(sed -n 's/^== \([^ ]*\).*/\1/p' tests/e2e/differences.test | sort)
    named=$(sed -n 's/^|.*|.*| *\([a-z][-a-z, ]*[a-z]\) *|$/\1/p' docs/DIFFERENCES.md | grep -v '^shown by$' | tr -d ' ' | tr , '\n' | sort)
    for name in $rows $named; do
        case $(echo "$rows" | grep -cx -e "$name")$(echo "$named" | grep -cx -e "$name") in
        11) ;;
        *) bad "$name is not once in differences.test and once in docs/DIFFERENCES.md" ;;
        esac
    done
    sed -n 's/^    {"\([a-z0-9-]*\)", [a-z0-9_]*, .[a?r-].*/\1/p' tests/lib/wall_probe.c | while read -r name; do
        grep -qE "[ ,|(]$name[ ,;)]" docs/SECURITY.md || bad "docs/SECURITY.md says nothing of the question $name"
    done
    "$zpipe" --help | grep '^  -' | grep -oE -e '--[a-z][a-z-]*' | sort -u | while read -r option; do
        grep -q -e "$option" docs/man/zpipe.1.scd || bad "zpipe(1) has no $option"
    done
    golden=$(grep -hoE '\{"[a-z0-9-]+", show' tests/golden/*.c | cut -d '"' -f 2 | sort)
    shown=$(sed -n '1,/^|---/d; s/ *([^)]*)//g; s/^|.*|.*| *\(.*\) *|$/\1/p' docs/SOURCES.md | tr -d ' ' | tr , '\n' | grep . | sort -u)
    for name in $golden $shown; do
        case $(echo "$golden" | grep -cx -e "$name")$(echo "$shown" | grep -cx -e "$name") in
        11) ;;
        *) bad "$name is not a golden program that docs/SOURCES.md names" ;;
        esac
    done
    "$zpipe" --help | grep -oE -e '--[a-z][a-z-]*' | sort -u | while read -r option; do
        cat docs/man/*.scd | grep -q -e "$option" || bad "no manual page has $option"
    done
)
[ -z "$said" ] || { echo "$said" | sort -u; exit 1; }
