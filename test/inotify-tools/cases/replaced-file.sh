# mv over a watched file: the watch follows the old inode
. "$LIB"
touch f g
start $INOTIFYWAIT -m f
mv g f
expect 2
echo x >f
finish
