# it dies of signals like any program
. "$LIB"
mkdir d
for signal in INT TERM HUP USR1; do
  start $INOTIFYWAIT -m d
  finish $signal
done
