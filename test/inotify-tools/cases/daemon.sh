# -d: silent, and it goes on behind; absolute paths
. "$LIB"
mkdir d
: >log
run $INOTIFYWAIT -d -o log -e create "$PWD/d"
find_daemon "$PWD/log" 1
touch d/a
expect 1 log
readlink "/proc/$daemon/cwd"
[ "$(ps -o sid= -p "$daemon")" -eq "$daemon" ] && echo 'has its own session'
for fd in 0 1 2; do readlink "/proc/$daemon/fd/$fd"; done
touch d/b
expect 2 log
kill "$daemon"
cat log
