# only what matches
. "$LIB"
mkdir -p d/s
for pattern in '\.log$' '^d/s/' 's/' '^b' '[0-9]|c' '' '/$'; do
  start $INOTIFYWAIT -m -r -e create --include "$pattern" d
  touch d/b.log d/B.LOG d/c.txt d/s/x d/s/1.log
  finish
  rm d/*.* d/s/*
done
