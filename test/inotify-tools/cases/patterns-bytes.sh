# a pattern is about bytes, whatever the locale: a dot is half a letter
. "$LIB"
mkdir d
for pattern in '^d/.$' '^d/..$' '[é]' '[^[:print:]]$'; do
  start $INOTIFYWAIT -m -e create --exclude "$pattern" d
  touch d/a d/é d/bb "$(printf 'd/\377')"
  finish
  rm d/*
done
