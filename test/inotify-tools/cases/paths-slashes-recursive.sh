# the same with -r
. "$LIB"
mkdir -p d/s/t
for path in d d/ d// . ./ ./d d/. d/..; do
  start $INOTIFYWAIT -m -r -e create "$path"
  touch d/a d/s/a d/s/t/a
  expect 3
  finish
  rm d/a d/s/a d/s/t/a
done
