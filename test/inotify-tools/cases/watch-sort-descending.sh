# -d KEY
. "$LIB"
mkdir a b c
touch b/2
for key in total create delete; do
  start $INOTIFYWATCH --descending "$key" a b c
  touch a/1 a/2
  touch b/1 b/2
  touch c/1 c/2 c/3
  finish
  rm a/* c/* b/1
done
