# the same without regard to case
. "$LIB"
mkdir d
for pattern in '\.log$' '[[:upper:]]' '^D/B' 'É'; do
  start $INOTIFYWAIT -m -e create --excludei "$pattern" d
  touch d/b.log d/B.LOG d/c.TXT d/1 d/É d/é
  finish
  rm d/*
done
