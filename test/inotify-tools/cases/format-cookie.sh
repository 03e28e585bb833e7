# both halves of a move have one cookie; others have 0
. "$LIB"
mkdir d
touch d/a
start $INOTIFYWAIT -m --format '%c %e %f' -e move,attrib d
mv d/a d/b
touch d/b
expect 3
read -r first rest <"$out"
case $first in *[!0-9a-f]* | '') ;; *) sed -i "s/^$first /COOKIE /" "$out" ;; esac
finish
