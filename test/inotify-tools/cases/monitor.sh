# -m goes on until it is ended
. "$LIB"
mkdir d
touch d/a
start $INOTIFYWAIT -m d
touch d/b
expect 4
cat d/a
mv d/b d/c
chmod 700 d/c
ln d/a d/h
rm d/c
mkdir d/s
rmdir d/s
expect 12
finish
