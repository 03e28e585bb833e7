# keys that are none
. "$LIB"
for key in bogus move close all_events isdir unmount; do
  run $INOTIFYWATCH -a $key nofile
  run $INOTIFYWATCH -d $key nofile
done
run $INOTIFYWATCH -a total -d total nofile
run $INOTIFYWATCH -a open -d bad nofile
run $INOTIFYWATCH -a bad -d open nofile
run $INOTIFYWATCH --ascending=open --ascending=open nofile
run $INOTIFYWATCH -a open -e modify nofile
run $INOTIFYWATCH -a open -e modify
run $INOTIFYWATCH -a move -e modify nofile
run $INOTIFYWATCH --exclude a --include b -a bad nofile
run $INOTIFYWATCH --exclude '(' -a open -e modify nofile
run $INOTIFYWATCH --exclude a --excludei b --fromfile nolist
run $INOTIFYWATCH --exclude '(' --fromfile nolist
