# what is no whole number
. "$LIB"
for seconds in abc 1.5 1abc 0x1 '' ' ' 1s; do
  run $INOTIFYWAIT -t "$seconds" f
  run $INOTIFYWATCH -t "$seconds" f
done
