# -qr says nothing while watches are set
. "$LIB"
mkdir -p d/s/t
start_quiet 3 $INOTIFYWAIT -qmr -e create d
touch d/s/t/a
expect 1
finish
