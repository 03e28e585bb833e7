# create: a file, a directory, a link, a symlink, a pipe, a device
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -m -e create d
touch d/a
mkdir d/s
ln f d/l
ln -s f d/sl
mkfifo d/p
mknod d/n c 1 3
expect 6
finish
