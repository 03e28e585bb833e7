# formats around the limit of 4096 bytes
. "$LIB"
mkdir d
for count in 4000 4094 4095 4096 5000; do
  start $INOTIFYWAIT --format "$(repeat $count x)" -e create d
  touch d/a
  ends
  rm d/a
done
