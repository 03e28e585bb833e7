# -a KEY
. "$LIB"
mkdir a b c
for key in total create CREATE open moved_to ''; do
  start $INOTIFYWATCH -a "$key" a b c
  touch a/1 a/2
  touch b/1
  touch c/1 c/2 c/3
  finish
  rm ./*/*
done
