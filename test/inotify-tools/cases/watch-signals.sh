# INT, TERM and HUP print the table
. "$LIB"
mkdir d
for signal in INT TERM HUP; do
  start $INOTIFYWATCH -e create d
  touch d/$signal
  finish $signal
done
start $INOTIFYWATCH d
finish USR2
