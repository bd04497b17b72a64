#!/bin/sh
# Every local link of the built pages leads somewhere.
set -eu
cd "${1:-dist}"
broken=0
for page in *.html; do
  for link in $(grep -o 'href="[^"#:]*"' "$page" | cut -d'"' -f2); do
    [ -e "$link" ] || { echo "$page: $link leads nowhere"; broken=1; }
  done
done
exit $broken
