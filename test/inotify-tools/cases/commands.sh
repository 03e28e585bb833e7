# cp, touch, truncate, ln -s, mkdir -p as a directory sees them
. "$LIB"
mkdir d
echo x >f
start $INOTIFYWAIT -m d
hold
cp f d/a
touch d/b
truncate -s 3 d/b
ln -s a d/l
mkdir -p d/s/t
rm -r d/s
release
finish
