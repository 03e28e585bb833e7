# a long time
. "$LIB"
mkdir d
for count in 300 4090 4095 5000; do
  start $INOTIFYWAIT --timefmt "$(repeat $count x)" --format '[%T]' -e create d
  touch d/a
  ends
  rm d/a
done
