# with -m it stays, watching nothing
. "$LIB"
in_mount_namespace
mkdir m
touch f
mount -t tmpfs none m
start $INOTIFYWAIT -m -e modify m f
umount m
echo x >>f
expect 1
finish
