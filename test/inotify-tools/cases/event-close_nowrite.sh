# close_nowrite alone
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e close_nowrite d
echo x >d/a
cat d/a >/dev/null
expect 1
finish
