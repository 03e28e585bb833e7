# the same without a newline
. "$LIB"
mkdir d
for count in 4094 4095 4096 4097; do
  start $INOTIFYWAIT --no-newline --format "$(repeat $count x)" -e create d
  touch d/a
  ends
  rm d/a
done
